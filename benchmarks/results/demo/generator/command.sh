#!/usr/bin/env bash
set -eu
python benchmarks/generator.py
