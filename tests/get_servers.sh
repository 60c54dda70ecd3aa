#!/bin/sh
# Installs the Debian packages of the servers that the tests start, where that is possible and allowed.
# What cannot be had is told; its tests then skip with their reason (with CI=true they fail).
set -u
missing=""
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
[ -e /usr/share/java/zookeeper.jar ] || missing="$missing libzookeeper-java"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests on a real ZooKeeper need Java and ZooKeeper's jars in /usr/share/java (Debian:$missing)" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests on a real ZooKeeper need: sudo apt-get install --no-install-recommends$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086  # a list of package names
if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "could not install$missing; the tests that need them will say so" >&2
fi
exit 0
