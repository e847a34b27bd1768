"""temporary"""
import argparse, sys, importlib
from fairtrial.project.errors import run
name = sys.argv[1]
module = importlib.import_module(f"fairtrial.{name}")
p = argparse.ArgumentParser(prog=f"fairtrial {name}")
module.add_arguments(p)
if __name__ == "__main__":
    run(lambda: module.main(p.parse_args(sys.argv[2:])))
