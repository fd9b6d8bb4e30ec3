"""Every snippet of the README runs as printed, in a fresh process with the wheel or the jar alone."""

import re

from .conftest import ROOT


def snippets(language: str) -> list[str]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall((ROOT / "README.md").read_text())


def test_the_readme_shows_every_feature_in_both_languages() -> None:
    for language in ("python", "scala"):
        text = "\n".join(snippets(language))
        for word in ("DeepImageFeaturizer", "DeepImagePredictor", "Pipeline", "readImages", "load("):
            assert word in text, f"the README has no {language} snippet with {word}"


def test_the_versions_in_the_readme_are_the_built_one(version: str) -> None:
    named = re.findall(r"spark-deep-learning_2\.13[:-](\d+\.\d+\.\d+)", (ROOT / "README.md").read_text())
    assert set(named) == {version}
