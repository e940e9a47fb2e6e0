"""PerPEFT<Backbone>: the item tower in RecBole's general recommenders.

A further one takes two lines, ``class PerPEFTX(GeneralMixin, X): backbone_name = "X"``, or GraphMixin if it propagates
over the graph of purchases; ``whole_table = True`` if it looks items up by their ids anywhere but in its item tables.
"""

import torch
from recbole.model.general_recommender import (
    BPR,
    DGCF,
    ENMF,
    FISM,
    LINE,
    NAIS,
    NGCF,
    NNCF,
    SGL,
    ConvNCF,
    MacridVAE,
    NeuMF,
    SimpleX,
    SpectralCF,
)

from recbole_perpeft.config.choices import WHITENED
from recbole_perpeft.likeness.similarity import unit_vectors
from recbole_perpeft.model.content_light_gcn import ContentLightGCN
from recbole_perpeft.model.general_mixins import GeneralMixin, GraphMixin
from recbole_perpeft.model.similar_items import nearest_items
from recbole_perpeft.model.tower_factory import frozen_features, load_encoder


class PerPEFTBPR(GeneralMixin, BPR):
    """Matrix factorisation by BPR (Rendle et al., UAI 2009)."""

    backbone_name = "BPR"
    loss_is_mean = True


class PerPEFTNeuMF(GeneralMixin, NeuMF):
    """NeuMF (He et al., WWW 2017)."""

    backbone_name = "NeuMF"
    loss_is_mean = True


class PerPEFTConvNCF(GeneralMixin, ConvNCF):
    """ConvNCF (He et al., IJCAI 2018)."""

    backbone_name = "ConvNCF"


class PerPEFTNNCF(GeneralMixin, NNCF):
    """NNCF (Bai et al., CIKM 2017); a user's neighbours are items, and so is their table."""

    backbone_name = "NNCF"
    loss_is_mean = True
    item_table_names = ("item_embedding", "user_neigh_embedding")
    whole_table = True


class PerPEFTLINE(GeneralMixin, LINE):
    """LINE (Tang et al., WWW 2015)."""

    backbone_name = "LINE"
    whole_table = True


class PerPEFTSimpleX(GeneralMixin, SimpleX):
    """SimpleX (Mao et al., CIKM 2021)."""

    backbone_name = "SimpleX"
    whole_table = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.neg_seq_len = config["num_negatives"]


class PerPEFTFISM(GeneralMixin, FISM):
    """FISM (Kabbur, Ning and Karypis, KDD 2013)."""

    backbone_name = "FISM"
    loss_is_mean = True
    whole_table = True


class PerPEFTNAIS(GeneralMixin, NAIS):
    """NAIS (He et al., TKDE 2018)."""

    backbone_name = "NAIS"
    loss_is_mean = True
    whole_table = True


class PerPEFTENMF(GeneralMixin, ENMF):
    """ENMF (Chen et al., TOIS 2020)."""

    backbone_name = "ENMF"
    whole_table = True
    trains_by_user = True


class PerPEFTMacridVAE(GeneralMixin, MacridVAE):
    """MacridVAE (Ma et al., NeurIPS 2019)."""

    backbone_name = "MacridVAE"
    whole_table = True
    trains_by_user = True


class PerPEFTLightGCN(GraphMixin, ContentLightGCN):
    """LightGCN (He et al., SIGIR 2020), as :class:`~recbole_perpeft.model.content_light_gcn.ContentLightGCN` has it.

    Items are alike as the frozen encoder sees them, in each modality apart.
    """

    backbone_name = "LightGCN"
    losses = ("CE", "BPR")

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if (number := config["similar_items"]) and dataset.item_encoder is None:
            features = frozen_features(load_encoder(config, dataset).to(self.device)).values()
            alike = [nearest_items(unit_vectors(some, WHITENED), number) for some in features]
            self.similar_items = torch.cat(alike, dim=1).to(self.device)


class PerPEFTNGCF(GraphMixin, NGCF):
    """NGCF (Wang et al., SIGIR 2019)."""

    backbone_name = "NGCF"


class PerPEFTSGL(GraphMixin, SGL):
    """SGL (Wu et al., SIGIR 2021)."""

    backbone_name = "SGL"


class PerPEFTDGCF(GraphMixin, DGCF):
    """DGCF (Wang et al., SIGIR 2020)."""

    backbone_name = "DGCF"


class PerPEFTSpectralCF(GraphMixin, SpectralCF):
    """SpectralCF (Zheng et al., RecSys 2018)."""

    backbone_name = "SpectralCF"
