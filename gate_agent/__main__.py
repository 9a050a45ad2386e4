"""`python -m gate_agent --config FILE`, the same as `gwanmun agent --config FILE`."""

import argparse
import sys
from pathlib import Path

from gate_agent.agent import run

parser = argparse.ArgumentParser(prog="gate_agent", description="관문 게이트 에이전트 / Gwanmun gate agent")
parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="gate.toml")
sys.exit(run(parser.parse_args().config))
