"""RecBole without the libraries that it seldom uses until it uses them, in fresh interpreters."""

import pytest

from tests.interpreter import in_a_fresh_interpreter


def test_libraries_wait_for_their_first_use_and_are_then_themselves_and_autograd_is_left_as_it_was():
    code = """
import sys
import recbole_perpeft.config
from recbole.data import interaction
from recbole.model.general_recommender import lightgcn
from recbole.model.knowledge_aware_recommender import kgin
libraries = ("pandas", "scipy.sparse", "sklearn", "tensorboard")
found = [[name for name in libraries if name in sys.modules]]
made = interaction.Interaction(interaction.pd.DataFrame({"a": [1.0, 2.0]}))["a"].tolist()
import pandas
found += [made, interaction.pd is pandas, interaction.pd.Series is pandas.Series, "scipy.sparse" in sys.modules]
graph = lightgcn.sp.dok_matrix((2, 2))
graph._update({(0, 1): 3.0})
from scipy import sparse
found += [graph.toarray().tolist(), lightgcn.sp is sparse, kgin.sp is sparse, "sklearn" in sys.modules]
from recbole.evaluator import metrics
from recbole.model.general_recommender import nceplrec, slimelastic
found += [[name for name in sys.modules if name.split(".")[0] in ("sklearn", "tensorboard")]]
found += [metrics.mean_absolute_error([1, 2], [1, 3])]
import sklearn.exceptions, sklearn.linear_model, sklearn.metrics, sklearn.utils.extmath
found += [
    metrics.sk_auc is sklearn.metrics.auc, metrics.mean_squared_error is sklearn.metrics.mean_squared_error,
    slimelastic.ElasticNet is sklearn.linear_model.ElasticNet,
    slimelastic.ConvergenceWarning is sklearn.exceptions.ConvergenceWarning,
    nceplrec.randomized_svd is sklearn.utils.extmath.randomized_svd,
]
import torch
from recbole.utils import get_model
get_model("SINE"), get_model("SASRec")
print(found + [torch.is_anomaly_enabled()])
"""
    expected = [[], [1.0, 2.0], True, True, False, [[0.0, 3.0], [0.0, 0.0]], True, True, False]
    expected += [[], 0.5, True, True, True, True, True, False]
    assert in_a_fresh_interpreter(code) == str(expected)


@pytest.mark.slow
def test_what_the_application_has_imported_first_stays_and_is_repaired():
    code = """
import pandas
from scipy import sparse
import recbole_perpeft.config
from recbole.data import interaction
from recbole.model.general_recommender import ncl
print([interaction.pd is pandas, ncl.sp is sparse, hasattr(sparse.dok_matrix, "_update")])
"""
    assert in_a_fresh_interpreter(code) == "[True, True, True]"
