#!/usr/bin/env bash
# What systemd does with the command, tried inside a machine of its own (scripts/systemd-test boots it). Each test is a function; without
# names all are run. The status is 1 if one has failed.
#
#     tests.sh [TEST …]

# shellcheck disable=SC2154 # what `coproc` assigns
# shellcheck disable=SC2053 # the values that are expected are patterns
# shellcheck disable=SC2329 # tests are called by their names
set -uo pipefail

recluster=/opt/bin/recluster
app=/srv/app
units=/run/systemd/system
version=$(systemctl --version | awk 'NR == 1 { print $2 }')

# Each test begins without a unit and with a good release.
begin() {
    systemctl stop web.service web.socket 2>/dev/null
    [[ ! -e /var/lib/dpkg/info/recluster.list ]] || dpkg --purge recluster
    rm -rf /etc/recluster /etc/systemd/system/recluster@*
    systemctl reset-failed 2>/dev/null
    rm -rf "$units"/web.* "$app"
    mkdir -p "$app"
    local release
    for release in good next broken; do
        mkdir "$app/$release"
        cp /opt/test/server.js "$app/$release/"
    done
    switch good
}

switch() { ln -sfn "$1" "$app/current"; }

# A unit of the lines that come on stdin, behind those of every one here.
unit() {
    {
        echo "[Service]"
        echo "ExecStart=$recluster $app/current/server.js --workers 2 --bake 100ms --control /run/web/control.sock ${options-}"
        echo "RuntimeDirectory=web"
        echo "RuntimeDirectoryMode=0700"
        echo "KillMode=mixed"
        cat
    } >"$units/web.service"
    systemctl daemon-reload
}

# Of the unit `service`, or else of web.service.
has() { # FIELD VALUE
    local value
    value=$(systemctl show -P "$1" "${service-web.service}")
    [[ $value == $2 ]] || fail "$1 is '$value', and not '$2'"
}

# Waits until a field has a value.
until_it_has() { # FIELD VALUE
    local tries=0
    until [[ $(systemctl show -P "$1" web.service) == $2 ]]; do
        ((++tries < 600)) || { has "$1" "$2"; return; }
        sleep 0.1
    done
}

# Waits until what the watchdog has heard is so much later than now.
beats_for() { # SECONDS
    local tries=0 last
    last=$(($(heard_at) + $1 * 1000000))
    until (($(heard_at) >= last)); do
        ((++tries < 600)) || { fail "the watchdog hears nothing"; return; }
        sleep 0.1
    done
}

heard_at() { systemctl show -P WatchdogTimestampMonotonic web.service; }

serves() { # RELEASE [PORT]
    local answer
    answer=$(node /opt/test/get.js "${2-8080}" 2>&1)
    [[ $answer == *"\"release\":\"$1\""* ]] || fail "it answers '$answer', and not as $1"
}

works() { "$@" || fail "'$*' has failed"; }
fails() { ! "$@" 2>/dev/null || fail "'$*' should have failed"; }

fail() {
    echo "    $*"
    failed=1
}

begins_a_load() { # [PATH]
    coproc load { exec node /opt/test/load.js 8080 "${1-/}"; }
    read -r _ <&"${load[0]}"
}

# Says in `counts` what has become of its requests.
ends_the_load() {
    kill -TERM "$load_PID"
    read -r counts <&"${load[0]}"
    wait "$load_PID"
    echo "    $counts"
}

count() { # NAME
    sed -E "s/.*\"$1\":([0-9]+).*/\1/" <<<"$counts"
}

test_start_reload_and_stop() {
    unit <<<"Type=notify
ExecReload=$recluster reload --control /run/web/control.sock"
    works systemctl start web
    has StatusText "running: 2 of 2 workers serve, generation 1"
    serves good
    switch next
    works systemctl reload web
    has StatusText "running: 2 of 2 workers serve, generation 2; last reload: generation 2 came to serve"
    serves next
    switch broken
    fails systemctl reload web
    has ActiveState active
    has StatusText "running: 2 of 2 workers serve, generation 2; last reload: generation 3 was rolled back: *"
    serves next
    works systemctl stop web
    has ActiveState inactive
    has Result success
    has ExecMainStatus 0
}

# What hooks do at the end takes longer than a watchdog waits.
test_a_watchdog_has_patience_with_an_end_that_takes_long() {
    options='--on "stopped=exec:sleep 8"' unit <<<"Type=notify
WatchdogSec=5"
    works systemctl start web
    works systemctl stop web
    has Result success
    has ExecMainStatus 0
}

# systemd waits for the word that it is over, and knows nothing of its success: the status tells.
test_reload_by_signal() {
    ((version >= 253)) || return 0
    local signal
    for signal in SIGHUP SIGUSR2; do
        begin
        unit <<<"Type=notify-reload
ReloadSignal=$signal"
        works systemctl start web
        switch next
        works systemctl reload web
        serves next
        has StatusText "*; last reload: generation 2 came to serve"
        switch broken
        works systemctl reload web
        has StatusText "*; last reload: generation 3 was rolled back: *"
        serves next
        rm -rf "$app/current"
        works systemctl reload web
        has ActiveState active
    done
}

test_a_start_that_fails() {
    switch broken
    unit <<<"Type=notify"
    fails systemctl start web
    has ActiveState failed
    has ExecMainStatus 3
    has StatusText "the start failed: worker *"
}

# Its timeouts are those of the master, which says that it takes longer.
test_a_start_and_a_stop_longer_than_systemd_would_wait() {
    options="--ready-timeout 1m --stop-timeout 30s --idle-grace 0" unit <<<"Type=notify
Environment=STARTS_AFTER=8 STOPS_AFTER=8
TimeoutStartSec=5
TimeoutStopSec=5"
    works systemctl start web
    has ActiveState active
    works systemctl stop web
    has Result success
    has ExecMainStatus 0
}

test_a_master_that_hangs_is_restarted() {
    unit <<<"Type=notify
WatchdogSec=5
WatchdogSignal=SIGKILL
Restart=on-failure"
    works systemctl start web
    kill -STOP "$(systemctl show -P MainPID web.service)"
    until_it_has NRestarts 1
    until_it_has ActiveState active
    serves good
    beats_for 6
    has NRestarts 1
}

# The units that the command itself prints, as the commands that it names install them.
installs() { # [OPTION …]
    (cd "$app" && "$recluster" systemd current/server.js --name web --workers 2 --bake 100ms --install="$units" "$@" >/dev/null) ||
        fail "'recluster systemd' has failed"
    systemctl daemon-reload
}

uid() { node /opt/test/get.js 8080 | sed -E 's/.*"uid":([0-9]+).*/\1/'; }

test_the_printed_unit_with_a_user_of_its_own() {
    installs --listen 8080 --run-as dynamic
    works systemctl start web.socket web.service
    has DynamicUser yes
    serves good
    (($(uid) >= 61184)) || fail "the workers are user $(uid)"
    switch next
    works systemctl reload web
    serves next
    switch broken
    fails systemctl reload web
    serves next
    works systemctl stop web.socket web.service
    has ExecMainStatus 0
}

test_the_printed_unit_without_a_socket() {
    installs --run-as root
    fails test -e "$units/web.socket"
    works systemctl start web
    serves good
    switch next
    works systemctl reload web
    serves next
}

# What is named is written to, and what is asked for is given, within the hardening.
test_the_printed_unit_with_options_that_reach_beyond_it() {
    mkdir -p "$app/var/cache" "$app/var/lines"
    local var=$app/var files
    # A machine in a machine may have no more to give than this.
    files=$(awk '/^Max open files/ { print $5 }' /proc/1/limits)
    installs --run-as root --admin "unix:$var/admin.sock" --compile-cache="$var/cache" --log-file "$var/log" --pidfile "$var/pid" \
        --worker-log "$var/lines" --rlimit "nofile=$files"
    works systemctl start web
    serves good
    works test -S "$var/admin.sock"
    works test -s "$var/pid"
    works test -s "$var/log"
    [[ $(find "$var/lines" -type f) ]] || fail "no lines of workers are written"
    grep -Eq "^Max open files +[0-9]+ +$files" "/proc/$(worker)/limits" || fail "workers may have too few files"
    fails "$recluster" systemd "$app/current/server.js" --run-as dynamic --log-file "$var/log"
    fails "$recluster" systemd "$app/current/server.js" --user root
}

worker() { node /opt/test/get.js 8080 | sed -E 's/.*"pid":([0-9]+).*/\1/'; }

test_a_first_connection_starts_it() {
    installs --listen 8080 --listen unix:/run/web.sock --run-as dynamic
    works systemctl start web.socket
    has ActiveState inactive
    serves good
    until_it_has ActiveState active
    works test -S /run/web.sock
}

# Connections wait in the kernel until the next master serves. What workers were answering is lost.
test_a_master_that_is_killed_refuses_nobody_where_systemd_holds_the_socket() {
    installs --listen 8080 --run-as dynamic
    works systemctl start web.socket web.service
    kills_it_three_times_under_load
}

# A load while the master is killed three times: nobody is refused. What workers were answering is cut off, and is counted.
kills_it_three_times_under_load() {
    local restart
    begins_a_load
    for restart in 1 2 3; do
        kill -KILL "$(systemctl show -P MainPID web.service)"
        until_it_has NRestarts "$restart"
        until_it_has ActiveState active
    done
    ends_the_load
    [[ $(count refused) == 0 && $(count other) == 0 && $(count answered) != 0 ]] || fail "refused or lost otherwise: $counts"
}

test_a_master_that_is_killed_refuses_nobody_where_the_server_listens_by_itself() {
    installs --run-as dynamic
    works systemctl start web
    # One for each worker, and the one from which connections are handed out.
    until_it_has NFileDescriptorStore 3
    kills_it_three_times_under_load
    until_it_has NFileDescriptorStore 3
    works systemctl stop web
    has NFileDescriptorStore 0
    [[ $(node /opt/test/get.js 8080 2>&1) == *ECONNREFUSED* ]] || fail "somebody listens still"
}

test_a_master_that_is_killed_refuses_nobody_where_it_has_bound_the_address_itself() {
    options="--listen 8080" unit <<<"Type=notify
Environment=FDSTORE=8
FileDescriptorStoreMax=8
Restart=on-failure"
    works systemctl start web
    has NFileDescriptorStore 1
    kills_it_three_times_under_load
}

# No connection is refused or cut in what is orderly.
test_nothing_is_lost_in_reloads_and_a_restart() {
    installs --listen 8080 --run-as dynamic
    works systemctl start web.socket web.service
    begins_a_load
    switch next
    works systemctl reload web
    switch broken
    fails systemctl reload web
    switch good
    works systemctl restart web.service
    works systemctl reload web
    ends_the_load
    [[ $(count refused) == 0 && $(count cut) == 0 && $(count other) == 0 ]] || fail "lost: $counts"
}

# Another version of the command, in a file beside it.
another_version() { # PATH
    local own
    own=$("$recluster" --version | awk '{ print $2 }')
    LC_ALL=C sed "s|${own//./\\.}|${own//[0-9]/9}|g" "$recluster" >"$1"
    chmod 755 "$1"
}

# Within the hardening of the printed unit, and with a watchdog. Who asks may be anybody who may use the control socket.
test_nothing_is_lost_in_upgrades_and_systemd_sees_one_service() {
    local main kept next=$app/another_recluster binary number
    another_version "$next"
    installs --run-as dynamic
    mkdir -p "$units/web.service.d"
    printf '[Service]\nWatchdogSec=5\n' >"$units/web.service.d/watchdog.conf"
    systemctl daemon-reload
    works systemctl start web
    until_it_has NFileDescriptorStore 3
    main=$(systemctl show -P MainPID web.service)
    begins_a_load
    for number in 1 2 3 4 5 6; do
        binary=$next
        ((number % 2)) || binary=$recluster
        works "$recluster" upgrade --control /run/web/control.sock --binary "$binary"
        has MainPID "$main"
        until_it_has ActiveState active
        if ((number == 3)); then
            switch next
            works systemctl reload web
            # Old and new workers have sockets of their own.
            kept=$(systemctl show -P NFileDescriptorStore web.service)
        fi
    done
    beats_for 11
    ends_the_load
    [[ $(count refused) == 0 && $(count cut) == 0 && $(count other) == 0 && $(count answered) != 0 ]] || fail "lost: $counts"
    has NRestarts 0
    has SubState running
    has StatusText "running: 2 of 2 workers serve, generation 2*"
    has NFileDescriptorStore "$kept"
    serves next
    # What it keeps is still what the next master needs.
    kills_it_three_times_under_load
    rm -rf "$units/web.service.d"
    systemctl daemon-reload
    works systemctl stop web
    has Result success
}

# The package as a machine gets it: an instance of its unit until nothing is left. The file of the instance is a person's, and stays.
test_the_package_from_its_installation_to_its_purge() {
    local service=recluster@shop.service status file=/etc/recluster/shop.toml dropin=/etc/systemd/system/recluster@shop.service.d main before left
    before=$(files_of_ours)
    works installs_the_package
    works test -s /usr/share/man/man1/recluster-run.1.gz
    works test -s /usr/share/bash-completion/completions/recluster
    printf '%s\n' "server = \"$app/current/server.js\"" 'workers = 2' 'bake = "100ms"' >"$file"
    works recluster check --config "$file" >/dev/null
    works systemctl enable --quiet --now recluster@shop
    has DynamicUser yes
    serves good
    switch next
    works systemctl reload recluster@shop
    serves next
    switch broken
    fails systemctl reload recluster@shop
    serves next
    status=$(recluster status --control /run/recluster-shop/control.sock) || fail "its status is not to be had: $status"

    # An upgrade leaves it alone.
    main=$(systemctl show -P MainPID "$service")
    works installs_the_package
    has MainPID "$main"
    works systemctl is-enabled --quiet recluster@shop
    serves next

    # What a person adds by a drop-in: a port for the privileged.
    printf '[env]\nPORT = "80"\n' >>"$file"
    fails systemctl reload recluster@shop
    mkdir -p "$dropin"
    printf '[Service]\n%s=CAP_NET_BIND_SERVICE\n' AmbientCapabilities >"$dropin/port.conf"
    printf 'CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n' >>"$dropin/port.conf"
    systemctl daemon-reload
    switch good
    works systemctl restart recluster@shop
    serves good 80

    fails systemctl start recluster@nobody
    service=recluster@nobody.service has ExecMainStatus 2

    works dpkg --remove recluster >/dev/null
    has ActiveState inactive
    [[ $(node /opt/test/get.js 80 2>&1) == *ECONNREFUSED* ]] || fail "somebody listens still"
    works test -s "$file"
    rm -rf "$file" "$dropin"
    works dpkg --purge recluster >/dev/null
    fails test -e /etc/recluster
    # Other tests may have left something.
    left=$(comm -13 <(echo "$before") <(files_of_ours); systemctl list-units --all --no-legend 'recluster@*')
    [[ ! $left ]] || fail "something is left: $left"
}

files_of_ours() { find / /run -xdev -path /opt -prune -o -name '*recluster*' -print | sort -u; }

installs_the_package() { dpkg --install /opt/packages/recluster_*.deb >/dev/null; }

all() { declare -F | awk '$3 ~ /^test_/ { sub("test_", "", $3); print $3 }'; }

status=0
names=("$@")
(($#)) || mapfile -t names < <(all)
for name in "${names[@]}"; do
    begun=$SECONDS
    failed=
    begin
    echo "$name"
    "test_$name"
    if [[ $failed ]]; then
        status=1
        echo "    FAILED"
        journalctl --no-pager --boot -o short-monotonic -u web.service -u 'recluster@*' -n 40 | sed 's/^/    | /'
    fi
    echo "    $((SECONDS - begun)) s"
done
begin
exit "$status"
