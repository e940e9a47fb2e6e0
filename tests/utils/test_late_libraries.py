"""RecBole without pandas and scipy until it uses them, in fresh interpreters."""

import pytest

from tests.interpreter import in_a_fresh_interpreter


def test_pandas_and_scipy_wait_for_their_first_use_and_are_then_themselves():
    code = """
import sys
import recbole_perpeft.config
from recbole.data import interaction
from recbole.model.general_recommender import lightgcn
from recbole.model.knowledge_aware_recommender import kgin
found = [[name for name in ("pandas", "scipy.sparse", "sklearn") if name in sys.modules]]
made = interaction.Interaction(interaction.pd.DataFrame({"a": [1.0, 2.0]}))["a"].tolist()
import pandas
found += [made, interaction.pd is pandas, interaction.pd.Series is pandas.Series, "scipy.sparse" in sys.modules]
graph = lightgcn.sp.dok_matrix((2, 2))
graph._update({(0, 1): 3.0})
from scipy import sparse
found += [graph.toarray().tolist(), lightgcn.sp is sparse, kgin.sp is sparse, "sklearn" in sys.modules]
print(found)
"""
    expected = [[], [1.0, 2.0], True, True, False, [[0.0, 3.0], [0.0, 0.0]], True, True, False]
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
