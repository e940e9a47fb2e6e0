#!/usr/bin/env bash
set -eu
# pip install ranx==0.3.21 rectools==0.19.0 lenskit==2025.8.1 cornac==3.0.1 torchmetrics==1.9.0, each in an environment of its own if need be
python -m benchmarks.metrics_agreement
