"""How much the weights of a score's terms, and with them its scores, depend on whose validation purchases find them.

    python benchmarks/weight_search.py saved/<checkpoint>.pth --turns 4

Finds the weights of one and the same model several times, each time by other users: in the first round alone, and as
the package does, in both. Prints the processor's seconds, and NDCG@20 of all users with what was found, in validation
and in the test.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for recbole_perpeft of this checkout

from recbole_perpeft.model.score_parts import Part  # noqa: E402
from recbole_perpeft.quick_start import load  # noqa: E402
from recbole_perpeft.trainer import term_weights  # noqa: E402


def users_from(number: int):
    """As ``some_batches``, from another user on for each ``number``."""

    def some(loader, most: int):
        users = loader.rows_in_order()
        every = -(-len(users) // most)
        yield from map(loader.collate_fn, loader.blocks_of(users[number % every :: every]))

    return some


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--turns", type=int, default=4)
    arguments = parser.parse_args()
    _, trainer, _, valid_data, test_data = load(arguments.checkpoint, config_dict={"show_progress": False})
    search = term_weights._Round
    second = {name: getattr(search, name) for name in ("forms_together", "together")}
    ways = {"the first round": dict.fromkeys(second, lambda *_: None), "both rounds": second}
    print("| | turn | content: weight, decay | purchases: weight, decay, damping | validation | test | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, methods in ways.items():
        for method, done in methods.items():
            setattr(search, method, done)
        for turn in range(arguments.turns):
            term_weights.some_batches = users_from(turn)
            for term in trainer.model.score_terms.values():
                term.weight.zero_()  # else a search starts from what the one before has found
            start = time.process_time()
            term_weights.find_term_weights(trainer, valid_data)
            seconds = time.process_time() - start
            scores = [trainer.evaluate(data, load_best_model=False)["ndcg@20"] for data in (valid_data, test_data)]
            content, purchases = (trainer.model.score_terms[part] for part in (Part.CONTENT, Part.PURCHASES))
            forms = f"{content.weight:.2f}, {content.decay:.2f} | {purchases.weight:.2f}, {purchases.decay:.1f}"
            print(
                f"| {name} | {turn + 1} | {forms}, {purchases.damping:.1f} | {scores[0]:.4f} | {scores[1]:.4f} "
                f"| {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
