"""What the benchmark compares does the same job: pandas, written plainly, is an independent calculation."""

import pytest

from benchmarks import prepare_naive
from benchmarks.prepare import K_CORE, make_files, same_files


@pytest.mark.parametrize("packed", [False, True])
def test_json_and_pandas_write_the_same_purchases_and_titles(prepare, tmp_path, packed):
    files = make_files(tmp_path, 1500, 60, packed)
    ours = prepare("Shop", "amazon2023", *files, "--k_core", K_CORE)
    prepare_naive.main([*map(str, files), "--out", str(tmp_path / "naive"), str(K_CORE)])
    theirs = tmp_path / "naive" / "Shop"
    assert same_files(ours.folder, theirs)
    addresses = [sorted((folder / "Shop.urls.tsv").read_text().splitlines()) for folder in (ours.folder, theirs)]
    assert addresses[0] == addresses[1]
    assert 100 < len(ours.purchases()) < 1400  # the core takes some
