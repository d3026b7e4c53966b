import sys


def pytest_terminal_summary(terminalreporter):
    variants = sys.modules.get("variants")
    lines = list(variants.summary()) if variants else []
    if lines:
        terminalreporter.section("stages and passes left out")
        for line in lines:
            terminalreporter.line(line)
