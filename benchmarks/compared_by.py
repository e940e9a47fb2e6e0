"""Whether items are better compared as the PEFT modules see them or as the foundation model does without any.

    python benchmarks/compared_by.py saved/PerPEFTSASRec-….pth

Takes a checkpoint of a model whose modules have learnt from the content term, finds the weights of the terms in
validation with either, and prints NDCG@20 in validation and test.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for benchmarks, which is not installed

from recbole_perpeft.experiments.tables import pipes  # noqa: E402
from recbole_perpeft.quick_start import load  # noqa: E402
from recbole_perpeft.trainer import term_weights  # noqa: E402

METRIC = "ndcg@20"
WAYS = {"PEFT modules": 1.0, "the foundation model without any": 0.0}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    _, trainer, _, valid_data, test_data = load(parser.parse_args().checkpoint)
    trainer.restore_best()
    tower = trainer.model.item_tower
    if not tower.content_term.can_be_frozen:
        raise SystemExit("checkpoint: its modules have not learnt from the content term. Take one whose modules have.")
    tower.content_term.read_frozen(tower.encoder)
    lines = []
    for name, by_modules in WAYS.items():
        tower.content_term.by_modules.fill_(by_modules)
        term_weights.views_of = lambda *_, by_modules=by_modules: ({"by_modules": by_modules},)
        for term in trainer.model.score_terms.values():
            if term is not None:
                term.weight.zero_()  # else the second way's search starts from what the first's has found
        term_weights.find_term_weights(trainer, valid_data)
        results = [trainer.evaluate(data, load_best_model=False)[METRIC] for data in (valid_data, test_data)]
        lines.append([name, *(f"{result:.4f}" for result in results)])
    print(pipes(["items compared as seen by", "validation", "test"], lines))


if __name__ == "__main__":
    main()
