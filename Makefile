# Each target sets up what it needs by itself: scripts/setup.sh.
# Variables: PYTHON (3.11 to 3.13), VENV, OUT (where demo and eval write), EVAL_SCENES and UNSEEN
# (folders of rendered scenes; what is in them is not rendered again).
VENV ?= .venv
OUT ?=
CACHE = $${DKT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/dkt_ros}
EVAL_SCENES ?= $(CACHE)/tabletop-v1-eval
UNSEEN ?= $(CACHE)/eval-unseen
EVAL = dkt eval --data "$(EVAL_SCENES)" --data "$(UNSEEN)" --data "$(UNSEEN)-stereo" \
	--protocol affine-sensor
RUN = PATH="$(abspath $(VENV))/bin:$$PATH" ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST

export PYTHON VENV

.PHONY: help setup demo test test-gpu lint bench eval clean

help:
	@echo 'make demo   the whole graph on the bundled clip: pictures, points, a recording, a table'
	@echo 'make test   the tests'
	@echo 'make lint   the style checks'
	@echo 'make bench  speed, age and memory of the stream, the ROS side and the grasp planner'
	@echo 'make eval   render 100 evaluation scenes (once, or where it stopped) and evaluate the'
	@echo '            bundled model on them, in windows and frame by frame'

setup:
	@scripts/setup.sh

demo: setup
	$(RUN) dkt demo --out $(or $(OUT),demo_out)

test: setup
	$(RUN) python -m pytest -m 'not gpu'

test-gpu: setup
	$(RUN) python -m pytest -m gpu

lint: setup
	$(RUN) ruff check .
	bash -n scripts/setup.sh scripts/gpu_check.sh .ci/run

bench: setup
	$(RUN) dkt bench stream
	$(RUN) dkt bench ros
	$(RUN) dkt bench grasp

eval:
	@scripts/setup.sh --render
	$(RUN) dkt render --setup
	$(RUN) dkt render --out "$(EVAL_SCENES)" --num-scenes 50 --seed 1000000 --preset tabletop-v1
	$(RUN) dkt render --out "$(UNSEEN)" --config config/eval_unseen.yaml \
		--num-scenes 20 --seed 1100000
	$(RUN) dkt render --out "$(UNSEEN)-stereo" --config config/eval_unseen.yaml \
		--num-scenes 30 --seed 1100020 --num-frames 2 --sensor stereo
	$(RUN) dkt scenes stats "$(EVAL_SCENES)"
	$(RUN) $(EVAL) --out $(or $(OUT),eval_out)
	$(RUN) $(EVAL) --out $(or $(OUT),eval_out)/frame_by_frame --preset image

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
