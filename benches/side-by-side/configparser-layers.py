"""configparser-layers.py LIST: reads and merges the files of each line, tabs between them, with
configparser, and nothing more. Prints the microseconds of CPU that one line took, and those that
passed."""

import configparser
import sys
import time

with open(sys.argv[1], encoding="utf-8") as listed:
    instances = [line.rstrip("\n").split("\t") for line in listed]

began, begin = time.perf_counter(), time.process_time()
for files in instances:
    # Nothing interpolated, names as they are, only `=`: the least that it can be made to do.
    merged = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#", ";"))
    merged.optionxform = str
    merged.read(files, encoding="utf-8")
spent, passed = time.process_time() - begin, time.perf_counter() - began
print(f"{spent / len(instances) * 1e6:.2f} {passed / len(instances) * 1e6:.2f}")
