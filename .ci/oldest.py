"""Print the oldest versions that pyproject.toml allows, as constraints for pip: "name>=1.2" becomes "name==1.2"."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
requirements = {
    *project["dependencies"],
    *(line for extra in project["optional-dependencies"].values() for line in extra),
}
for requirement in sorted(requirements):
    if bound := re.fullmatch(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{bound[1]}=={bound[2]}")
