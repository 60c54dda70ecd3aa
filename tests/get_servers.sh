#!/bin/sh
# Installs the Debian packages of the servers that the tests start, where that is possible and allowed; none of them is
# started as a service. What cannot be had is told; its tests then skip with their reason (with CI=true they fail).
set -u
missing=""
command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
[ -e /usr/share/java/zookeeper.jar ] || missing="$missing libzookeeper-java"
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
[ -x /usr/sbin/mariadbd ] || command -v mariadbd >/dev/null 2>&1 || missing="$missing mariadb-server"
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests on real servers need ZooKeeper, PostgreSQL and MariaDB (of Debian's packages these are missing:$missing)" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests on real servers need: sudo apt-get install --no-install-recommends$missing" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
made=""
trap 'rm -f "$log" $made' EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
    # Debian starts what it installs, unless this says no.
    made=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
fi
# shellcheck disable=SC2086  # a list of package names
if ! { apt-get update && apt-get install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "could not install$missing; the tests that need them will say so" >&2
fi
exit 0
