#!/usr/bin/env bash
# How well strata plan predicts the executor: predicted and measured step time of small runs that
# differ in model, budgets, tiers, micro-batches, threads, clipping and state format.
#
#   tests/bench/prediction.sh STRATA [--json] [--rounds N] [--steps N] [--only NAME] [--best]
#
# Each run measures this machine's rates first (train --measure), then trains; its ratio is the
# median step time, without the first step, over the predicted one. The figure of a setting is the
# median of its rounds; rounds go over all settings, so that a noisy minute hits one round of each.
# With --best, for a machine that others use: the shortest step of all rounds over what the best of
# each rate predicts, of as many measurements.
# Trains in a temporary folder of $STRATA_BENCH_DIR (default: here). Run it on a quiet machine.
set -euo pipefail
exec python3 "$(dirname "$0")/prediction.py" "$@"
