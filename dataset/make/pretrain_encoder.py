"""Pre-train the demo's encoder: a small CLIP on catalogues of other seeds than the demo's.

    python -m dataset.make.pretrain_encoder --out dataset/demo/encoder

In a shop's catalogue some aspects stand in the picture only and others in the title only. Contrastive
training keeps what the two share, so here pictures show and captions mention random subsets of *all* aspects:
both towers learn to read every aspect. The encoder sees neither the demo's items nor any purchase.

The default settings take about five minutes on two free CPU cores and eight on busy ones.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase

from dataset.make.catalogue import draw_values
from dataset.make.demo import SEED as DEMO_SEED
from dataset.make.demo import SIDE
from dataset.make.encoder_files import MEAN, STD, build_tokenizer, save_encoder, small_clip_config
from dataset.make.pictures import draw
from dataset.make.titles import write_titles

PRETRAINING_SEEDS = (101, 102, 103, 104)
SHOWN_SHARE = 0.85
# share of the shown aspects that a caption mentions: drawn anew for every caption, between these
MENTIONED_SHARE = (0.5, 1.0)


class PretrainingPairs:
    """Pictures with fresh captions.

    Parameters
    ----------
    n_items : int
        Items per catalogue.
    seeds : tuple of int
        One catalogue each.
    """

    def __init__(self, n_items: int, seeds: tuple[int, ...]) -> None:
        if DEMO_SEED in seeds:
            raise ValueError(f"seeds={seeds} contain the demo's seed {DEMO_SEED}: choose others")
        values, shown, pictures = [], [], []
        for seed in seeds:
            rng = np.random.default_rng([seed, 3])
            catalogue_values, jitter = draw_values(n_items, rng)
            catalogue_shown = rng.random(catalogue_values.shape) < SHOWN_SHARE
            values.append(catalogue_values)
            shown.append(catalogue_shown)
            pictures.append(draw(catalogue_values, catalogue_shown, jitter, SIDE))
        self.values = np.concatenate(values)
        self.shown = np.concatenate(shown)
        self.pictures = np.concatenate(pictures)

    def __len__(self) -> int:
        return len(self.values)

    def captions(self, rows: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Write a caption for each of some pictures, naming some of the aspects that it shows.

        Parameters
        ----------
        rows : ndarray of int, shape [n]
            Which pictures.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        list of str
            The captions.
        """
        share = rng.uniform(*MENTIONED_SHARE, size=(len(rows), 1))
        mentioned = self.shown[rows] & (rng.random(self.shown[rows].shape) < share)
        return write_titles(self.values[rows], mentioned, rng)

    def pixels(self, rows: np.ndarray) -> torch.Tensor:
        """Normalised pictures, shape [n, 3, side, side]."""
        floats = torch.from_numpy(self.pictures[rows]).permute(0, 3, 1, 2).float() / 255
        return (floats - MEAN) / STD


def train(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: PretrainingPairs,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train a CLIP with its contrastive loss, in place.

    Parameters
    ----------
    model : CLIPModel
        The model.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    pairs : PretrainingPairs
        The pictures and captions.
    steps, batch_size : int
        Number of steps and pairs per step.
    learning_rate : float
        Peak of a schedule with a short warm-up and a cosine decay to zero.
    seed : int
        Seed of batches and captions.
    """
    rng = np.random.default_rng([seed, 4])
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, pct_start=0.08)
    model.train()
    started = time.time()
    for step in range(1, steps + 1):
        rows = rng.choice(len(pairs), size=batch_size, replace=False)
        tokens = tokenizer(pairs.captions(rows, rng), padding=True, truncation=True, return_tensors="pt")
        loss = model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pairs.pixels(rows),
            return_loss=True,
        ).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=np.log(100))
        if step == 1 or step % 100 == 0:
            print(f"step {step:5d}  loss {loss.item():.3f}  {time.time() - started:.0f} s", flush=True)
    model.eval()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("dataset/demo/encoder"))
    parser.add_argument("--n_items", type=int, default=6000, help="items per pre-training catalogue")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--learning_rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pairs = PretrainingPairs(args.n_items, PRETRAINING_SEEDS)
    rng = np.random.default_rng([args.seed, 5])
    tokenizer = build_tokenizer([text for _ in range(100) for text in pairs.captions(np.arange(300), rng)])
    model = CLIPModel(CLIPConfig(**small_clip_config(tokenizer, SIDE)))
    train(model, tokenizer, pairs, args.steps, args.batch_size, args.learning_rate, args.seed)
    save_encoder(model, tokenizer, SIDE, args.out)


if __name__ == "__main__":
    main()
