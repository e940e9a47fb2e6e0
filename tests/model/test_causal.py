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


def test_long_sequences_are_read_a_few_at_a_time(prepare):
    _, trainer, *_ = prepare(model="PerPEFTSASRec", MAX_ITEM_LIST_LENGTH=1000)
    model = trainer.model.eval()
    sequences, lengths = torch.randint(1, model.n_items, (11, 1000)), torch.full((11,), 1000)
    lengths[-1] = 5
    sequences *= torch.arange(1000) < lengths[:, None]
    read = sizes_read(model)
    with torch.no_grad(), model.item_tower.catalogue(0):
        outputs = model.forward(sequences, lengths)
        assert read == [(1, 8), (4, 1000), (4, 1000), (2, 1000)]  # 4 million pairs of positions
        torch.testing.assert_close(outputs, SASRec.forward(model, sequences, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", [SASRec, GRU4Rec])
def test_prefixes_that_share_passes_are_read_as_each_by_itself(prepare, backbone):
    _, trainer, *_ = prepare(model=f"PerPEFT{backbone.__name__}", MAX_ITEM_LIST_LENGTH=40)
    model = trainer.model.eval()
    histories = torch.randint(1, model.n_items, (5, 40), generator=torch.Generator().manual_seed(0))
    histories *= torch.arange(40) < torch.tensor([40, 3, 12, 9, 30])[:, None]
    prefixes, row_of = model.prefixes_of(torch.arange(1, 6), histories)
    read = sizes_read(model)
    with torch.no_grad(), model.item_tower.catalogue(0):
        with model._reading(prefixes):
            shared = model.forward(prefixes["item_id_list"], prefixes["item_length"])
        # of the passes, one a user, no more is read than of other sequences
        assert sorted(read) == [(1, 16), (1, 32), (1, 40), (2, 8)]
        each = backbone.forward(model, prefixes["item_id_list"], prefixes["item_length"])
    assert len(row_of) == 39 + 2 + 11 + 8 + 29
    torch.testing.assert_close(shared, each, rtol=1e-4, atol=1e-5)
