#!/bin/sh
# Prints a new folder for the files of one run of the tests: in memory where there is room, because
# hundreds of ledgers wait for a disk else; in TMPDIR otherwise.
set -eu
room_kib=12000000
free() { awk '/^MemAvailable:/ { print $2 }' /proc/meminfo; }
left() { df -Pk /dev/shm | awk 'NR == 2 { print $4 }'; }
if [ -w /dev/shm ] && [ -r /proc/meminfo ] && [ "$(free)" -gt "$room_kib" ] && [ "$(left)" -gt "$room_kib" ]; then
    mktemp -d /dev/shm/t.XXXX
else
    mktemp -d "${TMPDIR:-/tmp}/t.XXXX"
fi
