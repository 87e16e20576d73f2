# SPDX-License-Identifier: Apache-2.0
# make demo   the shipped bag through the real nodes; results under out/demo
# make test   the whole suite
# Both set up .venv first, once: no network is needed the second time.

PYTHON ?= python3
VENV := .venv
# One stamp for each origin of ROS: sourcing another one sets the environment up again.
STAMP := $(VENV)/.installed-$(if $(AMENT_PREFIX_PATH),$(or $(ROS_DISTRO),sourced),wheels)
export PYTHON

.PHONY: help install demo test lint format clean
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

install: $(STAMP)

$(STAMP): setup.py setup.cfg .ci/install constraints/torch.txt constraints/wheels.txt constraints/numpy1.txt
	.ci/install $(VENV)
	@touch $@

demo: $(STAMP)
	@$(VENV)/bin/python .ci/loopback
	$(VENV)/bin/depth-two-stage demo

# No plugins that other packages bring (Open3D's dash, a sourced ROS's launch_testing). A file's tests stay
# together: they share nodes and bags.
test: $(STAMP)
	@$(VENV)/bin/python .ci/loopback
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(VENV)/bin/python -m pytest -p xdist -n 2 --dist loadfile $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build install log dist out .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
