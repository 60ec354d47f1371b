"""Peak memory and time of a conversion of a large model, which is written for it: random weights, in shards.

    python -m bench.conversion.large FOLDER -- --rtn
    python -m bench.conversion.large FOLDER --layers 8 --vocabulary 512 -- --max-memory 12G

What follows `--` goes to convert_eoq.py. The model stays in FOLDER for the next run, the output does not.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from bench.conversion.synthetic_folder import FolderShape, write_folder
from bench.errors import BenchError
from bench.machine import cpu_name
from bench.tool_command import tool_command
from converter.sizes import parse_size
from llama_programs.run import timed_run
from output_files.sizes import size_text
from output_files.target import check_space
from output_files.whole import explained
from terminal.tool import run_tool


def parse_arguments() -> argparse.Namespace:
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=Path, help="where the model and the output go; made if it does not exist")
    usual = FolderShape()
    for name in ("layers", "hidden", "feed-forward", "vocabulary"):
        default = getattr(usual, name.replace("-", "_"))
        add(f"--{name}", type=int, metavar="N", default=default, help=f"of the model (default: {default})")
    add("--shard-size", metavar="SIZE", default="5G", help="of its safetensors files (default: 5G)")
    arguments = parser.parse_args(own)
    arguments.options = options
    return arguments


def run(arguments: argparse.Namespace) -> None:
    shape = FolderShape(arguments.layers, arguments.hidden, arguments.feed_forward, arguments.vocabulary)
    shard_bytes = parse_size(arguments.shard_size, "--shard-size")
    with explained(f"cannot make {arguments.folder}"):
        arguments.folder.mkdir(exist_ok=True)
    model: Path = arguments.folder / "model"
    config = model / "config.json"
    if not config.exists():  # it is written last
        shutil.rmtree(model, ignore_errors=True)
        check_space((arguments.folder, shape.nbytes, "the model"))
        write_folder(shape, model, shard_bytes)
    elif json.loads(config.read_text()) != shape.config:
        raise BenchError(f"{model} is a model of another shape; remove it, or give another folder")
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=".large.") as folder:
        target = Path(folder) / "output.gguf"
        seconds, peak = timed_run(tool_command("convert_eoq.py", model, target, "--quiet", *arguments.options))
        output = sum(path.stat().st_size for path in target.parent.glob("*.gguf"))
    print(f"{cpu_name()}; convert_eoq.py {' '.join(arguments.options)}")
    print(f"model {size_text(shape.nbytes)}, output {size_text(output)}, {seconds:,.0f} s")
    print(f"largest process {size_text(peak)}, {peak / shape.nbytes:.2f} times the model")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda arguments: "the model stays")


if __name__ == "__main__":
    sys.exit(main())
