#!/bin/sh
# A night on a rack: what nrfdfu-nightly.service runs. The exit status tells product from bench trouble (README, Racks).
set -u
cd "${SUITE:?the folder of the test suite}" || exit 2
stamp=$(date +%Y-%m-%dT%H%M)
mkdir -p nights
.venv/bin/pytest tests --board "${BOARD:-rack-nrf5340dk}" --build "app=${BUILD:?a signed image or build directory}" \
    -n auto --reruns 3 --nrfdfu-require-board --nrfdfu-lease-timeout 1800 \
    --junit-xml "nights/$stamp.xml" --html "nights/$stamp.html" --self-contained-html --nrfdfu-record nights/records
status=$?
.venv/bin/nrfdfu report nights/records -o nights/index.html
case $status in
    10) echo "bench trouble only: see nights/$stamp.html for the unit and what to do" ;;
    11) echo "nothing was tested: are all units held, disabled or retired?" ;;
esac
exit $status
