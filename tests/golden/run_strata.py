"""Runs the program for a check that is about something else."""

import subprocess
import sys


def strata(program, *arguments):
    """What it printed; ends the check where it fails."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"strata {' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout
