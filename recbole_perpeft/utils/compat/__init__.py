"""Repairs of RecBole 1.2, made in place; nothing else in the package patches.

Each room that uses RecBole makes them when it is imported. The package itself does not, so that ``--help`` does not
wait for RecBole.

``libraries`` lets it run on today's numpy, scipy, pandas and torch. The others repair faults of RecBole's own that
falsify a number, or never end: ``scores`` how models rank, ``transforms`` what they read in evaluation, ``negatives``
what is drawn where nothing is left, ``metrics`` what is computed of rankings. And ``optimizers`` lets training begin
without torch's compiler, ``distributed`` lets several processes train on CPUs, ``late_libraries`` lets a process start
without scikit-learn, TensorBoard, pandas and scipy.
"""

from recbole_perpeft.utils.compat import late_libraries

with late_libraries.waiting():
    from recbole_perpeft.utils.compat import distributed, libraries, metrics, negatives, optimizers, scores, transforms


def apply() -> None:
    """Make all repairs. Can be called twice."""
    with late_libraries.waiting():
        import recbole.data.dataset  # pandas and scipy of these wait too
        import recbole.model.knowledge_aware_recommender  # noqa: F401

        libraries.apply()  # first: without it the others could not import RecBole's models
        scores.apply()
        transforms.apply()
        negatives.apply()
        metrics.apply()
        optimizers.apply()
        distributed.apply()
