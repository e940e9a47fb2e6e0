#!/usr/bin/env bash
set -eu
python benchmarks/peft_methods.py
