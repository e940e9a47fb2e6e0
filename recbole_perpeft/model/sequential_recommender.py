"""PerPEFT<Backbone>: the item tower in RecBole's sequential recommenders.

A further one takes two lines, ``class PerPEFTX(PerPEFTMixin, X): backbone_name = "X"``, with ``whole_table = True`` if
it looks items up by their ids anywhere but in its item tables; its settings are those of RecBole's X.yaml.
"""

import torch
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender import (
    CORE,
    FDSA,
    FOSSIL,
    FPMC,
    GCSAN,
    HGN,
    HRM,
    NARM,
    NPE,
    SHAN,
    SINE,
    SRGNN,
    STAMP,
    BERT4Rec,
    Caser,
    FEARec,
    GRU4Rec,
    GRU4RecF,
    LightSANs,
    NextItNet,
    RepeatNet,
    SASRec,
    SASRecF,
    TransRec,
)

from recbole_perpeft.data.user_batch import UserBatch
from recbole_perpeft.model.causal import CausalMixin
from recbole_perpeft.model.perpeft import PerPEFTMixin


class OwnLossMixin(PerPEFTMixin):
    """For backbones that compute their loss themselves: no negatives of ours reach it."""

    @classmethod
    def negatives_with(cls, loss_type: str | None) -> None:
        """None, whatever ``loss_type``."""

    def _set_loss(self, config) -> None:
        pass


class PerPEFTSASRec(CausalMixin, PerPEFTMixin, SASRec):
    """SASRec (Kang and McAuley, ICDM 2018) on items as the user's group sees them; the paper's backbone."""

    backbone_name = "SASRec"
    loss_is_mean = True
    trims_sequences = True


class PerPEFTGRU4Rec(CausalMixin, PerPEFTMixin, GRU4Rec):
    """GRU4Rec (Tan, Xu and Liu, DLRS 2016)."""

    backbone_name = "GRU4Rec"
    loss_is_mean = True


class PerPEFTNARM(PerPEFTMixin, NARM):
    """NARM (Li et al., CIKM 2017)."""

    backbone_name = "NARM"
    loss_is_mean = True


class PerPEFTSTAMP(PerPEFTMixin, STAMP):
    """STAMP (Liu et al., KDD 2018)."""

    backbone_name = "STAMP"
    loss_is_mean = True


class PerPEFTLightSANs(PerPEFTMixin, LightSANs):
    """LightSANs (Fan et al., SIGIR 2021)."""

    backbone_name = "LightSANs"
    loss_is_mean = True


class PerPEFTSINE(PerPEFTMixin, SINE):
    """SINE (Tan et al., WSDM 2021)."""

    backbone_name = "SINE"
    loss_is_mean = True


class PerPEFTSRGNN(PerPEFTMixin, SRGNN):
    """SR-GNN (Wu et al., AAAI 2019)."""

    backbone_name = "SRGNN"
    loss_is_mean = True


class PerPEFTGCSAN(PerPEFTMixin, GCSAN):
    """GC-SAN (Xu et al., IJCAI 2019)."""

    backbone_name = "GCSAN"
    loss_is_mean = True


class PerPEFTCORE(PerPEFTMixin, CORE):
    """CORE (Hou et al., SIGIR 2022); its loss is CE."""

    backbone_name = "CORE"
    loss_is_mean = True
    losses = ("CE",)


class PerPEFTNextItNet(PerPEFTMixin, NextItNet):
    """NextItNet (Yuan et al., WSDM 2019)."""

    backbone_name = "NextItNet"
    loss_is_mean = True


class PerPEFTCaser(PerPEFTMixin, Caser):
    """Caser (Tang and Wang, WSDM 2018)."""

    backbone_name = "Caser"
    loss_is_mean = True


class PerPEFTHRM(PerPEFTMixin, HRM):
    """HRM (Wang et al., SIGIR 2015)."""

    backbone_name = "HRM"
    loss_is_mean = True


class PerPEFTFOSSIL(PerPEFTMixin, FOSSIL):
    """FOSSIL (He and McAuley, ICDM 2016)."""

    backbone_name = "FOSSIL"


class PerPEFTNPE(PerPEFTMixin, NPE):
    """NPE (Nguyen and Takasu, IJCAI 2018)."""

    backbone_name = "NPE"
    loss_is_mean = True


class PerPEFTHGN(PerPEFTMixin, HGN):
    """HGN (Ma, Kang and Liu, KDD 2019); items have one table as history and one as target."""

    backbone_name = "HGN"


class PerPEFTSHAN(PerPEFTMixin, SHAN):
    """SHAN (Ying et al., IJCAI 2018)."""

    backbone_name = "SHAN"


class PerPEFTFPMC(PerPEFTMixin, FPMC):
    """FPMC (Rendle, Freudenthaler and Schmidt-Thieme, WWW 2010); its loss is BPR or BCE."""

    backbone_name = "FPMC"
    loss_is_mean = True
    losses = ("BPR", "BCE")
    item_table_names = ("IU_emb", "LI_emb", "IL_emb")


class PerPEFTTransRec(PerPEFTMixin, TransRec):
    """TransRec (He, Kang and McAuley, RecSys 2017); its loss is BPR."""

    backbone_name = "TransRec"
    losses = ("BPR",)


class PerPEFTBERT4Rec(OwnLossMixin, BERT4Rec):
    """BERT4Rec (Sun et al., CIKM 2019); all items compete with CE, and one that RecBole draws with BPR."""

    backbone_name = "BERT4Rec"
    whole_table = True
    losses = ("CE", "BPR")

    def calculate_loss(self, batch: UserBatch) -> torch.Tensor:
        """RecBole's; 0 for a batch, as of few users, in which chance has masked nothing (RecBole divides by 0)."""
        if not batch[self.MASK_INDEX].any():
            return 0 * self.item_tower.id_embedding.weight.sum()
        return super().calculate_loss(batch)


class PerPEFTRepeatNet(OwnLossMixin, RepeatNet):
    """RepeatNet (Ren et al., AAAI 2019); items are seen in histories only, its loss is its own."""

    backbone_name = "RepeatNet"
    whole_table = True
    losses = ()

    def _representations(self, interaction: Interaction) -> torch.Tensor:
        """Mean embedding of each row's purchases, ``[n, embedding_dim]``: ``forward`` gives scores."""
        return self._mean_purchases(interaction[self.ITEM_SEQ])


class PerPEFTFEARec(PerPEFTMixin, FEARec):
    """FEARec (Du et al., SIGIR 2023)."""

    backbone_name = "FEARec"
    whole_table = True


class PerPEFTSASRecF(PerPEFTMixin, SASRecF):
    """SASRecF: SASRec with item features (``selected_features``)."""

    backbone_name = "SASRecF"
    loss_is_mean = True
    whole_table = True


class PerPEFTGRU4RecF(PerPEFTMixin, GRU4RecF):
    """GRU4RecF (Hidasi et al., RecSys 2016): GRU4Rec with item features (``selected_features``)."""

    backbone_name = "GRU4RecF"
    loss_is_mean = True
    whole_table = True


class PerPEFTFDSA(PerPEFTMixin, FDSA):
    """FDSA (Zhang et al., IJCAI 2019), with item features (``selected_features``)."""

    backbone_name = "FDSA"
    loss_is_mean = True
    whole_table = True
