"""The naive reference of the speed benchmark: PerPEFT as research code does it, on transformers and peft alone.

Every step opens, decodes and processes its items' pictures anew, tokenises their titles, and runs the encoder in fp32;
validation encodes the whole catalogue once per group, with adapters that are not merged, and ranks users one at a
time. The mathematics is the paper's: 16 users a step, their last 10 items in one causal pass, one negative a position,
binary cross entropy, AdamW.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from recbole.model.sequential_recommender import SASRec
from torch import nn
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

EVAL_BATCH = 64


class CausalSASRec(SASRec):
    """RecBole's SASRec, asked for its output at every position at once."""

    def outputs(self, embedded: torch.Tensor, sequences: torch.Tensor) -> torch.Tensor:
        """Outputs ``[b, l, h]`` of embedded sequences ``[b, l, h]``; ``sequences [b, l]`` is 0 where padded."""
        positions = torch.arange(sequences.shape[1], device=sequences.device)
        hidden = self.dropout(self.LayerNorm(embedded + self.position_embedding(positions)))
        return self.trm_encoder(hidden, self.get_attention_mask(sequences))[-1]


class NaivePerPEFT(nn.Module):
    """CLIP with one LoRA module and projector a group, and SASRec on top.

    Parameters
    ----------
    config : recbole_perpeft.config.Config
        The paper's settings; read as SASRec reads them.
    dataset : recbole.data.dataset.Dataset
        Tells SASRec the number of items.
    encoder : Path
        A CLIP in Hugging Face's format.
    pictures, titles
        Of every item id, padding first, ``[n_items]``.
    """

    def __init__(self, config, dataset, encoder: Path, pictures: Sequence[Path], titles: Sequence[str]):
        super().__init__()
        self.pictures, self.titles = pictures, titles
        self.content_weight, self.l2_emb = config["content_weight"], config["l2_emb"]
        self.tokenizer = AutoTokenizer.from_pretrained(encoder)
        self.image_processor = CLIPImageProcessorPil.from_pretrained(encoder)
        lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
        clip = CLIPModel.from_pretrained(encoder, dtype=torch.float32)
        self.clip = get_peft_model(clip, lora, adapter_name="group_0")
        for group in range(1, config["num_groups"]):
            self.clip.add_adapter(f"group_{group}", lora)
        # SASRec knows no BCE; its own loss is not used
        self.backbone = CausalSASRec({**config.final_config_dict, "loss_type": "BPR"}, dataset)
        self.id_embedding = self.backbone.item_embedding
        width, hidden = 2 * clip.config.projection_dim, config["hidden_size"]
        self.projectors = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, config["projector_size"]),
                nn.LayerNorm(config["projector_size"]),
                nn.ReLU(),
                nn.Linear(config["projector_size"], hidden),
                nn.LayerNorm(hidden),
            )
            for _ in range(config["num_groups"])
        )
        self.items_encoded = 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.id_embedding.weight.device

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The LoRA modules and projectors of all groups, the id embedding and SASRec."""
        lora = [parameter for name, parameter in self.clip.named_parameters() if "lora_" in name]
        return [*lora, *self.projectors.parameters(), *self.backbone.parameters()]

    def content(self, items: np.ndarray) -> dict[str, torch.Tensor]:
        """Pixels ``[m, 3, H, W]`` and tokens ``[m, l]`` of items ``[m]``, from the files."""
        images = [Image.open(self.pictures[item]).convert("RGB") for item in items]
        pixels = self.image_processor(images=images, return_tensors="pt")["pixel_values"]
        titles = [self.titles[item] for item in items]
        tokens = self.tokenizer(titles, padding=True, truncation=True, return_tensors="pt")
        inputs = {"pixel_values": pixels, "input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}
        return {key: tensor.to(self.device) for key, tensor in inputs.items()}

    def encode(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Content features under the active group's LoRA, ``[m, 2 * projection]``."""
        self.items_encoded += len(inputs["input_ids"])
        image = self.clip.get_image_features(pixel_values=inputs["pixel_values"]).pooler_output
        text = self.clip.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output
        return torch.cat([F.normalize(image, dim=-1), F.normalize(text, dim=-1)], dim=-1)

    def embed(self, items: np.ndarray, group: int) -> torch.Tensor:
        """``z(i, g)`` of items ``[m]``, ``[m, h]``."""
        self.clip.set_adapter(f"group_{group}")
        content = self.projectors[group](self.encode(self.content(items)))
        return self.content_weight * content + self.id_embedding(torch.from_numpy(items).to(self.device))

    def loss(self, inputs: np.ndarray, positives: np.ndarray, negatives: np.ndarray, group: int) -> torch.Tensor:
        """The paper's loss; item ids ``[b, l]``, 0 where padded on the right."""
        items, rows = np.unique(np.stack([inputs, positives, negatives]), return_inverse=True)  # rows [3, b, l]
        table = self.embed(items[items > 0], group)
        if items[0] == 0:  # without padding in the batch no row of zeros is due
            table = F.pad(table, (0, 0, 1, 0))
        sequence, positive, negative = table[torch.from_numpy(rows.reshape(3, *inputs.shape)).to(self.device)]
        outputs = self.backbone.outputs(sequence, torch.from_numpy(inputs).to(self.device))  # [b, l, h]
        real = torch.from_numpy(inputs > 0).to(self.device)
        liked, other = (outputs * positive).sum(-1)[real], (outputs * negative).sum(-1)[real]
        loss = F.binary_cross_entropy_with_logits(liked, torch.ones_like(liked))
        loss = loss + F.binary_cross_entropy_with_logits(other, torch.zeros_like(other))
        return loss + self.l2_emb * self.id_embedding.weight.norm()

    @torch.no_grad()
    def personalise(self) -> None:
        """Give every group a copy of group 0's LoRA module and projector."""
        parameters = dict(self.clip.named_parameters())
        for name, parameter in parameters.items():
            parameter.copy_(parameters[re.sub(r"\.group_\d+", ".group_0", name)])
        for projector in self.projectors:
            projector.load_state_dict(self.projectors[0].state_dict())


@dataclass
class NaiveTrainer:
    """Steps and validation of the naive reference.

    Attributes
    ----------
    model : NaivePerPEFT
    optimizer : torch.optim.Optimizer
    histories : dict[int, numpy.ndarray]
        User id to their training purchases, oldest first.
    targets : dict[int, int]
        User id to their validation purchase.
    length : int
        Items of a sequence.
    pools : list of numpy.ndarray
        Items that each group's negatives are drawn from.
    rng : numpy.random.Generator
    """

    model: NaivePerPEFT
    optimizer: torch.optim.Optimizer
    histories: dict[int, np.ndarray]
    targets: dict[int, int]
    length: int
    pools: list[np.ndarray]
    rng: np.random.Generator

    def step(self, users: Sequence[int], group: int) -> torch.Tensor:
        """One step on some users of one group; returns the loss."""
        shape = (len(users), self.length)
        inputs, positives, negatives = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        for row, user in enumerate(users):
            last = self.histories[user][-self.length - 1 :]
            n = len(last) - 1
            inputs[row, :n], positives[row, :n] = last[:-1], last[1:]
            negatives[row, :n] = [self._negative(user, group) for _ in range(n)]
        loss = self.model.loss(inputs, positives, negatives, group)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _negative(self, user: int, group: int) -> int:
        while True:
            item = int(self.rng.choice(self.pools[group]))
            if item not in self.histories[user]:
                return item

    @torch.no_grad()
    def table(self, items: np.ndarray, group: int) -> torch.Tensor:
        """``z(i, g)`` of items ``[m]`` for ranking, ``[m, h]``, in batches of ``EVAL_BATCH``."""
        batches = [items[start : start + EVAL_BATCH] for start in range(0, len(items), EVAL_BATCH)]
        return torch.cat([self.model.embed(batch, group) for batch in batches])

    @torch.no_grad()
    def rank(self, user: int, table: torch.Tensor) -> int:
        """Rank, from 0, of the user's validation purchase among the catalogue ``table [n_items, h]``."""
        history = self.histories[user]
        sequence = torch.zeros(1, self.length, dtype=torch.long)
        last = torch.from_numpy(history[-self.length :].copy())
        sequence[0, : len(last)] = last
        sequence = sequence.to(table.device)
        output = self.model.backbone.outputs(table[sequence], sequence)[0, len(last) - 1]  # [h]
        scores = table @ output  # [n_items]
        scores[0] = -torch.inf
        scores[torch.from_numpy(history).to(table.device)] = -torch.inf
        order = scores.argsort(descending=True)
        return int((order == self.targets[user]).nonzero()[0])
