"""Which items can be among the best of many users: found by scores in bf16, with room for all that is rounded."""

from dataclasses import dataclass

import torch

from recbole_perpeft.evaluation.top_items import FOLD
from recbole_perpeft.serving.products import Product
from recbole_perpeft.utils.cores import multiplies_bf16

BLOCK = 128  # users at a time: more have more candidates together, and fewer are multiplied more slowly
_LEAST_USERS = 64  # below these all scores in fp32 are as fast
_ITEMS_OF_A_PLACE = 1024  # that lists may hold, for each place of a list: of fewer, too many are candidates
_MOST_ITEMS = 2**21  # of whose scores a block takes half a gigabyte
_JOINED = 4  # folds of which only the best counts when it is asked how good an item must be
_MOST = 0.25  # of the folds of all users that may have candidates
_ROUNDED = 2**-8  # the largest share that a number loses or gains as bf16
_SUMMED = 2**-21  # the same for each number of a sum in fp32, several times over
_CONVERTED = 2048  # items at a time
_TINY = 1e-15  # what is lost of numbers that are too small for fp32, and more


class Candidates:
    """Finds all items that can be among the best of a user.

    Scores are computed in bf16, and all that was rounded on the way is bounded. A user's vector ``u`` has length one
    here, and of an item's vector ``v`` the mean of all items is subtracted: neither changes a user's ranking. Of the
    rounded vectors ``u'`` and ``v'`` the lost parts are known, so by Cauchy and Schwarz

        ``|u v - u' v'| <= |u| |v - v'| + |u - u'| |v'|``

    and the product itself is rounded by 1/256 at most. The k-th largest lower bound says how good an item must be.

    Parameters
    ----------
    n_items
        Padding included.
    shut
        Items that no list may hold, ``[n]``; padding is among them.
    """

    def __init__(self, n_items: int, shut: torch.Tensor):
        self._n_items, self._shut = n_items, shut
        self._tables: tuple[torch.Tensor, ...] = ()
        self._versions: list[int] = []
        self._rounded: _Rounded | None = None
        self._scores: torch.Tensor | None = None  # [rows, BLOCK], kept from block to block

    def are_worth_it(self, product: Product, users: int, k: int) -> bool:
        """Whether they are found faster than all scores of some users of ``product``: on CPUs with tiles of bf16."""
        items, left = product.items[0], self._n_items - len(self._shut)
        return (
            users >= _LEAST_USERS
            and left >= _ITEMS_OF_A_PLACE * k
            and self._n_items <= _MOST_ITEMS
            and items.device.type == "cpu"
            and items.dtype == torch.float32
            and multiplies_bf16()
        )

    def of(self, product: Product, bought: tuple[torch.Tensor, torch.Tensor] | None, k: int) -> torch.Tensor | None:
        """The items, ascending, ``[n]``, among which are the k best of each user of ``product``, with all equal ones.

        None, if that cannot be said of some user, if too many items would be, or if the items' vectors are met for the
        first time: to round them takes as long as to multiply them.

        Parameters
        ----------
        product
            Of :data:`BLOCK` users at most.
        bought
            Row and item ``[n]`` of what each user's list may not hold.
        """
        rounded = self._rounded_once_known(product.items)
        if rounded is None:
            return None
        vectors = torch.cat(product.queries, dim=1)  # [users, d]
        lengths = vectors.norm(dim=1, keepdim=True)
        users, vectors = len(vectors), vectors / lengths
        queries = vectors.new_zeros(BLOCK, vectors.shape[1], dtype=torch.bfloat16)
        queries[:users] = vectors
        lost = rounded.lost + (vectors - queries[:users]).norm(dim=1).max() * rounded.lengths  # [folds]
        scores = self._multiply(rounded.vectors, queries, bought)  # [folds, 64, BLOCK]
        # as whole numbers they are compared several times faster; only of positive ones is the largest the largest
        best = scores.view(torch.int16).amax(dim=1).view(torch.bfloat16)[:, :users].float()  # [folds, users]
        least = _kth(best * (1 - _ROUNDED) - lost.unsqueeze(1), k)  # [users]
        if not ((least > lost.max()) & (lengths.T > _TINY) & (lengths.T < 1 / _TINY)).all():  # or not a number
            return None
        enough = (least - lost.unsqueeze(1)) * (1 - _ROUNDED)  # [folds, users]
        fold, user = (best >= enough).nonzero().unbind(1)
        if len(fold) > _MOST * best.numel():
            return None
        pair, place = (scores[fold, :, user] >= enough[fold, user].unsqueeze(1)).nonzero().unbind(1)
        are = torch.zeros(len(scores) * FOLD, dtype=torch.bool)
        are[fold[pair] * FOLD + place] = True
        return are.nonzero().squeeze(1)

    def _rounded_once_known(self, tables: tuple[torch.Tensor, ...]) -> "_Rounded | None":
        versions = [table._version for table in tables]
        places = [table.data_ptr() for table in tables]
        if versions != self._versions or places != [table.data_ptr() for table in self._tables]:
            # kept, so that no other tensor comes to lie where they are
            self._tables, self._versions, self._rounded = tables, versions, None
        elif self._rounded is None:
            self._rounded = _Rounded.of(tables)
        return self._rounded

    def _multiply(self, items: torch.Tensor, queries: torch.Tensor, bought) -> torch.Tensor:
        if self._scores is None:
            self._scores = items.new_empty(len(items), BLOCK)
        scores = torch.mm(items, queries.T, out=self._scores)
        scores[self._n_items :] = -torch.inf
        scores[self._shut] = -torch.inf
        if bought is not None:
            rows, of_users = bought
            scores[of_users, rows] = -torch.inf
        return scores.view(-1, FOLD, BLOCK)


@dataclass(frozen=True)
class _Rounded:
    """Items' vectors in bf16, less their mean, and for each fold of 64 what was lost.

    Attributes
    ----------
    vectors : torch.Tensor
        ``[rows, d]``, filled up with zeros.
    lost : torch.Tensor
        At most so much of a score with a vector of length one was lost with the item's vector, or is by adding up,
        ``[folds]``.
    lengths : torch.Tensor
        The largest of vectors, ``[folds]``.
    """

    vectors: torch.Tensor
    lost: torch.Tensor
    lengths: torch.Tensor

    @classmethod
    def of(cls, tables: tuple[torch.Tensor, ...]) -> "_Rounded":
        n, d = len(tables[0]), sum(table.shape[1] for table in tables)
        mean = torch.cat([table.mean(dim=0) for table in tables])  # [d]
        rows = -(-n // (_JOINED * FOLD)) * _JOINED * FOLD
        vectors = torch.zeros(rows, d, dtype=torch.bfloat16)
        lost, lengths = torch.zeros(rows), torch.zeros(rows)
        for low in range(0, n, _CONVERTED):  # at a time: in a cache
            exact = torch.cat([table[low : low + _CONVERTED] for table in tables], dim=1)
            some, centred = slice(low, low + len(exact)), exact - mean
            vectors[some] = centred
            rounded = vectors[some].float()
            lengths[some] = rounded.norm(dim=1)
            sums = d * _SUMMED * (exact.norm(dim=1) + lengths[some])
            lost[some] = (centred - rounded).norm(dim=1) + sums + _TINY
        return cls(vectors, lost.view(-1, FOLD).amax(dim=1), lengths.view(-1, FOLD).amax(dim=1))


def _kth(bounds: torch.Tensor, k: int) -> torch.Tensor:
    """What k items of each user at least reach, by the lower ``bounds [folds, users]`` of each fold's best."""
    joined = bounds.view(-1, _JOINED, bounds.shape[1]).amax(dim=1)  # [folds / 4, users]
    return joined.T.contiguous().topk(k, sorted=False).values.amin(dim=1)
