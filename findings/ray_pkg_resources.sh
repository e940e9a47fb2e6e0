#!/bin/bash
# ray 2.6.3: `import ray` fails beside setuptools 82 or later, and with it `from recbole.quick_start import run_recbole`.
#
# Ray 2.6.3 imports pkg_resources, a part of setuptools that setuptools 82 has dropped, and does not ask for setuptools at
# all. RecBole 1.2.1 asks for "ray>=1.13.0,<=2.6.3", and recbole/quick_start/quick_start.py imports it at its top, though
# only a search of hyperparameters uses it. torch asks for setuptools>=77.0.3, so that a fresh environment with RecBole and
# torch has the newest setuptools: there RecBole's own entry, run_recbole, cannot be imported.
#
# Cure: pip install "setuptools<82". Later versions of Ray do without pkg_resources, but RecBole 1.2.1 does not allow them.
#
# Output seen (ray 2.6.3, Python 3.11):
#   setuptools 81.0.0: ray 2.6.3 is imported
#   setuptools 82.0.0: ModuleNotFoundError: No module named 'pkg_resources'
#
# Fails if that changes.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
for version in 81.0.0 82.0.0; do
  "$place/venv/bin/pip" install --quiet "ray==2.6.3" "setuptools==$version"
  said=$("$place/venv/bin/python" -W ignore -c "import ray; print('ray', ray.__version__, 'is imported')" 2>&1 | tail -1) || true
  echo "setuptools $version: $said"
done
[ "$said" = "ModuleNotFoundError: No module named 'pkg_resources'" ] || { echo "the behaviour has changed"; exit 1; }
