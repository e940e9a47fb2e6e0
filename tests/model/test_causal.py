"""An evaluation reads of each sequence little more than there is, and gives what the backbone makes of all of it."""

import pytest
import torch
from recbole.model.sequential_recommender import GRU4Rec, SASRec


def sizes_read(model):
    """Grows by rows and positions of what the backbone reads, each time that it reads."""
    read = []
    dropout = model.emb_dropout if isinstance(model, GRU4Rec) else model.dropout
    dropout.register_forward_hook(lambda module, given, output: read.append(tuple(output.shape[:2])))
    return read


@pytest.mark.parametrize("backbone", [SASRec, GRU4Rec])
def test_an_evaluation_without_padding_is_the_backbones(prepare, backbone):
    _, trainer, *_ = prepare(model=f"PerPEFT{backbone.__name__}", MAX_ITEM_LIST_LENGTH=40)
    model = trainer.model.eval()
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 41, (60,), generator=generator)
    lengths[:3] = torch.tensor([1, 8, 40])
    sequences = torch.randint(1, model.n_items, (60, 40), generator=generator)
    sequences *= torch.arange(40) < lengths[:, None]
    read = sizes_read(model)
    with torch.no_grad(), model.item_tower.catalogue(0):
        whole = backbone.forward(model, sequences, lengths)
        assert read.pop() == (60, 40)
        torch.testing.assert_close(model.forward(sequences, lengths), whole, rtol=1e-4, atol=1e-5)
        assert {positions for _, positions in read} == {8, 16, 32, 40}
        assert sum(rows for rows, _ in read) == 60
        alone = model.forward(sequences[:3], lengths[:3])
        torch.testing.assert_close(alone, whole[:3], rtol=1e-4, atol=1e-5)


def test_training_reads_whole_sequences(prepare):
    _, trainer, *_ = prepare(model="PerPEFTSASRec", MAX_ITEM_LIST_LENGTH=40)
    model = trainer.model.train()
    read = sizes_read(model)
    sequences = torch.ones(4, 40, dtype=torch.long) * (torch.arange(40) < 2)
    with model.item_tower.catalogue(0):
        model.forward(sequences, torch.full((4,), 2))
    assert read == [(4, 40)]
