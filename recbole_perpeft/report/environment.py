"""What RecBole logs of the machine at the end of a run."""

import psutil  # which notes when it is imported, and tells how busy the processor has been since
import torch
from recbole.utils.utils import get_gpu_usage
from texttable import Texttable

from recbole_perpeft.config import Config


def environment_table(config: Config) -> str:
    """Use of processor, GPU and memory, as a table.

    As RecBole's ``get_environment``, but for the processor: here it is how busy it was since the start.
    """
    # RecBole's waits a second, in every run of a comparison, and says how busy other programs are while this one waits
    on_gpu = torch.cuda.is_available() and config["use_gpu"]
    used, there = psutil.Process().memory_info().rss, psutil.virtual_memory().total
    table = Texttable()
    table.set_cols_align(["l", "c"])
    table.add_rows(
        [
            ["Environment", "Usage"],
            ["CPU", f"{psutil.cpu_percent():.2f} %"],
            ["GPU", get_gpu_usage(config["device"]) if on_gpu else "0.0 / 0.0"],
            ["Memory", f"{used / 2**30:.2f} G/{there / 2**30:.2f} G"],
        ]
    )
    return table.draw()
