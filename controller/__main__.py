"""`python -m controller --config FILE`, for installations without the `gwanmun` command."""

import argparse
import sys
from pathlib import Path

from controller.main import run

parser = argparse.ArgumentParser(prog="controller", description="건물 관제 서버 / building controller")
parser.add_argument(
    "--config", type=Path, required=True, metavar="FILE", help="설정 파일 (TOML) / configuration file (TOML)"
)
sys.exit(run(parser.parse_args().config))
