"""PerPEFT<Backbone>: the item tower in RecBole's sequential recommenders.

A further one takes two lines, ``class PerPEFTX(PerPEFTMixin, X): backbone_name = "X"``, if its item embedding is called
``item_embedding``; its settings are those of RecBole's X.yaml.
"""

from recbole.model.sequential_recommender import (
    CORE,
    FOSSIL,
    GCSAN,
    HRM,
    NARM,
    SINE,
    SRGNN,
    STAMP,
    Caser,
    GRU4Rec,
    LightSANs,
    NextItNet,
    SASRec,
)

from recbole_perpeft.causal import CausalMixin
from recbole_perpeft.model import PerPEFTMixin


class PerPEFTSASRec(CausalMixin, PerPEFTMixin, SASRec):
    """SASRec (Kang and McAuley, ICDM 2018) on items as the user's group sees them; the paper's backbone."""

    backbone_name = "SASRec"
    trims_sequences = True


class PerPEFTGRU4Rec(CausalMixin, PerPEFTMixin, GRU4Rec):
    """GRU4Rec (Tan, Xu and Liu, DLRS 2016)."""

    backbone_name = "GRU4Rec"


class PerPEFTNARM(PerPEFTMixin, NARM):
    """NARM (Li et al., CIKM 2017)."""

    backbone_name = "NARM"


class PerPEFTSTAMP(PerPEFTMixin, STAMP):
    """STAMP (Liu et al., KDD 2018)."""

    backbone_name = "STAMP"


class PerPEFTLightSANs(PerPEFTMixin, LightSANs):
    """LightSANs (Fan et al., SIGIR 2021)."""

    backbone_name = "LightSANs"


class PerPEFTSINE(PerPEFTMixin, SINE):
    """SINE (Tan et al., WSDM 2021)."""

    backbone_name = "SINE"


class PerPEFTSRGNN(PerPEFTMixin, SRGNN):
    """SR-GNN (Wu et al., AAAI 2019)."""

    backbone_name = "SRGNN"


class PerPEFTGCSAN(PerPEFTMixin, GCSAN):
    """GC-SAN (Xu et al., IJCAI 2019)."""

    backbone_name = "GCSAN"


class PerPEFTCORE(PerPEFTMixin, CORE):
    """CORE (Hou et al., SIGIR 2022); its loss is CE."""

    backbone_name = "CORE"


class PerPEFTNextItNet(PerPEFTMixin, NextItNet):
    """NextItNet (Yuan et al., WSDM 2019)."""

    backbone_name = "NextItNet"


class PerPEFTCaser(PerPEFTMixin, Caser):
    """Caser (Tang and Wang, WSDM 2018)."""

    backbone_name = "Caser"


class PerPEFTHRM(PerPEFTMixin, HRM):
    """HRM (Wang et al., SIGIR 2015)."""

    backbone_name = "HRM"


class PerPEFTFOSSIL(PerPEFTMixin, FOSSIL):
    """FOSSIL (He and McAuley, ICDM 2016)."""

    backbone_name = "FOSSIL"
