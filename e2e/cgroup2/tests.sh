#!/usr/bin/env bash
# What the command makes of control groups of version 2, tried in a machine that has no others (scripts/cgroup2-test boots it). Each test is a
# function; without names all are run. The status is 1 if one has failed.
#
#     tests.sh [TEST …]

# shellcheck disable=SC2329 # tests are called by their names
set -uo pipefail

groups=/sys/fs/cgroup
group=$groups/pod/shop
log=/tmp/log
master=

fail() {
    echo "    $*"
    failed=1
}

# A group within a group, as the one of a container is within that of its pod, and without limits.
make_group() {
    echo "+memory +cpu +cpuset" >"$groups/cgroup.subtree_control"
    mkdir -p "$group"
    echo "+memory +cpu +cpuset" >"$groups/pod/cgroup.subtree_control"
}

remove_group() {
    if [[ $master ]]; then
        [[ ! -d $group ]] || echo 1 >"$group/cgroup.kill"
        wait "$master" 2>/dev/null
        master=
    fi
    until [[ ! -d $group ]] || rmdir "$group" 2>/dev/null; do sleep 0.1; done
    [[ ! -d $groups/pod ]] || rmdir "$groups/pod"
}

limit() { # GROUP FILE VALUE
    echo "$3" >"$1/$2" || fail "$2 of $1 cannot be $3"
}

# Starts a master in the group, and waits until all its workers serve. With `contained` before the options it sees its group as the root of all,
# as in a container.
begin() { # [contained] [OPTION …]
    local -a around=()
    if [[ ${1-} == contained ]]; then
        shift
        # shellcheck disable=SC2016 # for the other shell
        around=(unshare --cgroup --mount bash -c 'umount /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' contained)
    fi
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        exec "${around[@]}" recluster /srv/server.js --log-format json --bake 100ms --control /run/shop.sock "$@"
    ) >"$log" 2>&1 &
    master=$!
    until_it_says '"event":"started"'
}

count() { grep -c -- "$1" "$log"; }

says() { (($(count "$1") > 0)) || { fail "the log does not say $1:"; tail -n 5 "$log" | sed 's/^/        /'; }; }

until_it_says() { # TEXT [TIMES]
    local tries=0
    until (($(count "$1") >= ${2-1})); do
        { kill -0 "$master" 2>/dev/null && ((++tries < 600)); } || { fail "the log never says $1:"; tail -n 8 "$log" | sed 's/^/        /'; return 1; }
        sleep 0.2
    done
}

get() { node /opt/test/get.js 8080 "$@" 2>&1; }

serves() { [[ $(get) == *'"release":"good"'* ]] || fail "it does not serve"; }

ends_with() { # STATUS
    local status
    { wait "$master"; } 2>/dev/null
    status=$?
    master=
    ((status == $1)) || fail "it has ended with $status, and not with $1"
}

# A quota counts in the own group and in those around it, as far as they are seen; `max` is none.
test_workers_by_quota() {
    local all
    all=$(nproc)
    workers_are 1 "$group" "190000 100000" contained
    workers_are 2 "$group" "200000 100000"
    workers_are 1 "$groups/pod" "20000 40000"
    workers_are "$all" "$group" "max 100000" contained
}

workers_are() { # NUMBER GROUP QUOTA [contained]
    make_group
    limit "$2" cpu.max "$3"
    begin "${@:4}" || return
    says "\"event\":\"starting\".*\"workers\":$1,"
    remove_group
}

test_workers_by_set_of_cpus() {
    limit "$group" cpuset.cpus 0
    begin || return
    says '"event":"starting".*"workers":1,'
}

# By whom a worker was killed is told, in a container and outside, and whether the limit is that of its group or of one around it.
test_out_of_memory() {
    out_of_memory_in "$group" contained
    out_of_memory_in "$group"
    out_of_memory_in "$groups/pod"
}

out_of_memory_in() { # GROUP [contained]
    make_group
    limit "$1" memory.max 256M
    begin "${@:2}" --workers 2 || return
    get /grow >/dev/null
    until_it_says '"event":"exit".*"signal":9.*"oom_killed":true' || return
    until_it_says '"event":"serving"'
    serves
    kill -KILL "$(pgrep --parent "$master" | head -n 1)"
    until_it_says '"event":"exit".*"signal":9' 2
    (($(count '"oom_killed":true') == 1)) || fail "the worker that was sent SIGKILL is said to be out of memory"
    kill -TERM "$master"
    ends_with 0
    remove_group
}

# The kernel ends the whole group, so nobody is left to tell.
test_a_group_that_is_killed_as_one() {
    limit "$group" memory.max 256M
    limit "$group" memory.oom.group 1
    begin --workers 2 || return
    get /grow >/dev/null
    ends_with 137
}

# A worker has 40 % of the limit, since a reload has two: 400 MiB of 1 GiB, and 200 of 500.
test_share_of_memory() {
    local how old tries
    for how in "" contained; do
        make_group
        limit "$group" memory.max 1024M
        # shellcheck disable=SC2086 # it may be no word
        begin $how --workers 1 --max-memory 80% || return
        get /keep >/dev/null
        old=$(pgrep --parent "$master" | head -n 1)
        # It looks every 5 seconds.
        sleep 11
        (($(count '"event":"recycling"') == 0)) || fail "a worker is replaced that has less than its part"
        limit "$group" memory.max 500M
        until_it_says '"event":"recycling".*"reason":"memory".*"limit":209715200' || return
        tries=0
        while kill -0 "$old" 2>/dev/null && ((++tries < 300)); do sleep 0.2; done
        ((tries < 300)) || fail "the worker that was too large is still there"
        serves
        (($(count '"oom_killed":true') == 0)) || fail "a worker was killed for want of memory"
        remove_group
    done
}

status=0
names=("$@")
(($#)) || mapfile -t names < <(compgen -A function test_)
for name in "${names[@]}"; do
    begun=$SECONDS failed=
    make_group
    "test_${name#test_}"
    remove_group
    echo "$([[ $failed ]] && echo FAILED || echo ok)  ${name#test_}, $((SECONDS - begun)) s"
    [[ ! $failed ]] || status=1
done
exit "$status"
