"""What an installed package needs is in the wheel."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_folder_of_code_and_yaml_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    code = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "recbole_perpeft").rglob("__init__.py")}
    yaml = {".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "properties").rglob("*.yaml")}
    expected = code | {f"recbole_perpeft.{name}" for name in yaml} | {"recbole_perpeft.dataset.demo"}
    assert set(settings["packages"]) == expected


def test_the_readmes_first_two_blocks_install_then_run_and_test():
    readme = (ROOT / "README.md").read_text()
    first, second = (block.split("```")[0] for block in readme.split("```bash\n")[1:3])
    assert first == "pip install -e . && python run_recbole_perpeft.py --model=PerPEFTSASRec\n"
    assert second == 'pip install -e ".[test]" && python -m pytest -q -n 2\n'
