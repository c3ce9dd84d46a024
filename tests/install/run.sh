#!/bin/bash
# What an administrator does with the Debian package, on a new machine with systemd.
#
# `cargo xtask install` boots the machine. Each step prints `ok NAME: what was seen`, or
# `failed NAME: why` and indented lines. Where others cannot do without a step, it is the last.
set -eu

readonly brought=/srv/brought emulator=/opt/emulator work=/run/test
readonly records=$work/records configuration=/etc/panoptes/panoptes.yaml
readonly drop_ins=/etc/systemd/system/panoptes.service.d

# Ends a step.
fail() {
    echo "$*"
    exit 1
}

# Waits until a command succeeds: SECONDS WHAT COMMAND…
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [[ $SECONDS -lt $end ]] || fail "there is no $what"
        sleep 0.5
    done
}

# A property of the service.
property() {
    systemctl show --property="$1" --value panoptes.service
}

# Prints the ids of the records at the receiver that a filter of jq selects.
ids() {
    jq --raw-input --raw-output --arg boot "$(cat $work/boot)" \
        "fromjson? | select($1) | .message_id" $records
}

has_record() {
    ids "$1" | grep --quiet .
}

# A process of the watched guest begins.
readonly of_guest='(.activity_data.name | IN("process_created", "process_executed"))
    and .activity_data.process_details.process_name == "sleep"
    and .workload_information.kernel_boot_id == $boot
    and .workload_information.hostname == "inner"'

named() {
    echo ".activity_data.name == \"$1\""
}

# The files of the machine that installing may change.
files() {
    find / -xdev \( -path /tmp -o -path /var/tmp -o -path /var/cache \
        -o -path /var/log/apt -o -path /var/log/dpkg.log -o -path /var/log/journal \
        -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/lib/logrotate \
        -o -path /var/lib/systemd \) -prune -o -print | sort
}

# Rates the unit; the rating must be below a limit, in tenths.
rate() {
    systemd-analyze verify --man=no panoptes.service
    systemd-analyze security --no-pager --threshold="$1" panoptes.service | tail --lines=1
}

use_drop_in() {
    rm --recursive --force $drop_ins
    mkdir $drop_ins
    cp "/usr/share/panoptes/systemd/$1.conf" $drop_ins
    systemctl daemon-reload
}

# Writes a configuration with the receiver, and checks it: EVENTS MORE
configure() {
    cat > $configuration <<END
service: {scan_interval: 100ms}
output: {telemetry: [{address: '127.0.0.1:5170', format: json}]}
default:
  events: {$1}
  limits: {processes: 512, threads: 1024, file_descriptors: 8192, vmas: 16384, connections: 512}
$2
END
    panoptes check $configuration
}

boot() {
    # Some unit may need a module that this kernel's few ones lack.
    systemctl is-system-running --wait || systemctl --failed --no-legend --plain
    [[ $(cat /proc/1/comm) == systemd ]] || fail "init is not systemd"
    begin_guest
    systemctl --version | head --lines=1
}

# A guest as libvirt runs it, with memory that is QEMU's own. It boots while other steps run.
begin_guest() {
    useradd --system --no-create-home --shell /usr/sbin/nologin libvirt-qemu
    local libraries=$emulator/usr/lib/x86_64-linux-gnu:$emulator/lib/x86_64-linux-gnu
    systemd-run --quiet --unit=guest --uid=libvirt-qemu --property=RuntimeDirectory=guest \
        --setenv=LD_LIBRARY_PATH=$libraries \
        --setenv=QEMU_MODULE_DIR=$emulator/usr/lib/x86_64-linux-gnu/qemu \
        $emulator/usr/bin/qemu-system-x86_64 -name guest=inner \
        -L $emulator/usr/share/qemu -L $emulator/usr/share/seabios \
        -nodefaults -no-user-config -accel tcg,tb-size=64 -machine q35 -cpu max,la57=off \
        -m 192 -kernel $brought/vmlinuz -initrd $brought/initrd \
        -append 'console=ttyS0 loglevel=3 no_timer_check cryptomgr.notests' \
        -display none -vga none -monitor none -serial file:/run/guest/console
}

install() {
    files > $work/before
    apt-get --option DPkg::Lock::Timeout=60 --yes install $brought/panoptes.deb
    [[ $(systemctl is-enabled panoptes) == disabled ]] || fail "the service is enabled"
    [[ $(systemctl is-active panoptes) == inactive ]] || fail "the service runs"
    local folders='/var/log/panoptes /var/lib/panoptes' folder
    for folder in $folders; do
        local facts
        facts=$(stat --format='%U %G %a' "$folder")
        [[ $facts == 'panoptes panoptes 750' ]] || fail "$folder: $facts"
    done
    [[ -f /usr/share/man/man1/panoptes.1.gz ]] || fail "there is no manual page"
    panoptes check $configuration
    panoptes --version
}

exposure() {
    rate 15
}

# Notes the id of the guest's boot, which its init has printed.
has_booted() {
    systemctl is-active --quiet guest || fail 'QEMU has ended'
    grep --text --only-matching --max-count=1 \
        -E '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}' /run/guest/console > $work/boot
}

guest() {
    await 900 'boot id of the guest' has_booted
    panoptes systems | grep inner
    echo "QEMU as the user libvirt-qemu, with the boot id $(cat $work/boot)"
}

drop_in() {
    use_drop_in qemu
    rate 25
}

start() {
    systemd-run --quiet --unit=receiver socat -u \
        TCP-LISTEN:5170,bind=127.0.0.1,reuseaddr,fork OPEN:$records,creat,append
    configure '' ''
    systemctl start panoptes
    [[ $(property ActiveState) == active ]] || fail "it is not active"
    local user
    user=$(ps -o user= -p "$(property MainPID)")
    [[ $user == panoptes ]] || fail "it runs as $user"
    local begin ready
    begin=$(property ExecMainStartTimestampMonotonic)
    ready=$(property ActiveEnterTimestampMonotonic)
    echo "ready after $(((ready - begin) / 1000)) ms, as the user panoptes"
}

# What the kernel notes of the service's threads: NAME KEY
of_threads() {
    local task
    for task in /proc/"$(property MainPID)"/task/*; do
        [[ $(cat "$task/comm") != "$1" ]] || sed --quiet "s/^$2:[[:space:]]*//p" "$task/status"
    done
}

# The unit must allow what threads do to have fewer capabilities and system calls.
threads() {
    local main scanner writer
    main=$(of_threads panoptes Seccomp_filters)
    # A thread's name has 15 bytes.
    for scanner in $(of_threads panoptes-scanne Seccomp_filters) \
        $(of_threads panoptes-writer Seccomp_filters); do
        [[ $scanner -gt $main ]] || fail "a thread has $scanner filters, the main thread $main"
    done
    scanner=$(of_threads panoptes-scanne CapPrm | sort --unique)
    # CAP_IPC_LOCK
    [[ $((16#$scanner & ~(1 << 14))) == 0 ]] || fail "scanners keep $scanner"
    # CAP_DAC_OVERRIDE, CAP_FOWNER
    writer=$(of_threads panoptes-writer CapPrm | sort --unique)
    [[ $((16#$writer & ~(1 << 1 | 1 << 3))) == 0 ]] || fail "the writer keeps $writer"
    main=$(of_threads panoptes CapPrm)
    # CAP_SYS_PTRACE
    [[ $((16#$main & 1 << 19)) != 0 ]] || fail "the main thread cannot attach to guests: $main"
    echo "capabilities: $main, scanners $scanner, writer $writer"
}

record() {
    await 180 'record about the guest' has_record "$of_guest"
    local id
    id=$(ids "$of_guest" | head --lines=1)
    await 10 'such line in the log' grep --quiet "$id" /var/log/panoptes/events.jsonl
    echo "a process of the guest, $id, at the receiver and in the log"
}

reload() {
    local medium='{severity: MEDIUM}'
    configure "process_created: $medium, process_executed: $medium" ''
    systemctl reload panoptes
    await 60 'record about the reload' has_record "$(named configuration_reloaded)"
    await 180 'record with the new severity' has_record "$of_guest and .severity == \"MEDIUM\""
    echo 'service: {scan_interval: soon}' > $configuration
    systemctl reload panoptes
    await 60 'record about the mistake' has_record "$(named configuration_refused)"
    [[ $(property ActiveState) == active ]] || fail "it is not active"
    echo 'a change applies, and a mistake is refused'
}

rotation() {
    sed --in-place 's/^#\(\/\|    \|}\)/\1/' /etc/logrotate.d/panoptes
    logrotate --force /etc/logrotate.d/panoptes
    local count
    count=$(find /var/log/panoptes -name 'events.jsonl-*' | wc --lines)
    [[ $count == 1 ]] || fail "logrotate has made $count files"
    await 60 'new log' test -s /var/log/panoptes/events.jsonl
    echo 'logrotate as the commented file has it; the log continues in a new file'
}

# The same version again, as an upgrade.
upgrade() {
    local process sum
    process=$(property MainPID)
    sum=$(sha256sum $configuration)
    dpkg --install $brought/panoptes.deb
    [[ $(property ActiveState) == active ]] || fail "it is not active"
    has_changed MainPID "$process" || fail "it was not started again"
    [[ $(sha256sum $configuration) == "$sum" ]] || fail "the configuration is another one"
    echo 'the service was started again, with its configuration'
}

has_changed() {
    [[ $(property "$1") != "$2" ]]
}

watchdog() {
    local beat
    beat=$(property WatchdogTimestampMonotonic)
    await 60 'sign of life' has_changed WatchdogTimestampMonotonic "$beat"
    [[ $(property NRestarts) == 0 ]] || fail "it was started again: $(property NRestarts)"
    configure '' ''
    kill -STOP "$(property MainPID)"
    await 120 'restart' has_changed NRestarts 0
    await 300 'active service' systemctl is-active --quiet panoptes
    : > $records
    await 180 'record after the restart' has_record "$of_guest"
    echo 'a frozen service is started again, and watches the guest'
}

stop() {
    : > $records
    systemctl stop panoptes
    await 30 'record about the end' has_record "$(named service_gracefully_shutdown)"
    [[ $(property Result) == success ]] || fail "it ended with $(property Result)"
    echo 'service_gracefully_shutdown at the receiver'
}

# The other way round than `guest`: the service watches the machine on which it runs.
host() {
    use_drop_in host
    rate 25
    configure '' "auto_scan: false
systems: {here: {system: 'host:'}}"
    systemctl start panoptes
    sleep 77.5 &
    await 120 'record about this machine' has_record '
        .activity_data.process_details.process_command_line_arguments == "sleep 77.5"'
    kill $!
    systemctl stop panoptes
    [[ $(property Result) == success ]] || fail "it ended with $(property Result)"
    echo 'process_created of this machine'
}

has_flow_to() {
    grep --quiet "\"destination_port\":$1," /var/log/panoptes-flow/flows.json
}

# A datagram to a port at which nobody listens.
send_to() {
    echo a datagram > "/dev/udp/127.0.0.1/$1"
}

# The sensor of flows as a service of its own.
flow() {
    local unit=panoptes-flow log=/var/log/panoptes-flow facts
    systemd-analyze verify --man=no $unit.service
    cat > /etc/panoptes/argus.conf <<END
ARGUS_INTERFACE=lo
ARGUS_FLOW_STATUS_INTERVAL=1
ARGUS_OUTPUT_FILE=json:$log/flows.json
END
    panoptes doctor --flow /etc/panoptes/argus.conf
    systemctl start $unit
    [[ $(ps -o user= -p "$(systemctl show --property=MainPID --value $unit)") == panoptes-flow ]] ||
        fail 'it runs as another user'
    send_to 41001
    await 30 'record of a flow' has_flow_to 41001
    logrotate --force /etc/logrotate.d/panoptes-flow
    send_to 41002
    await 30 'record in the new file' has_flow_to 41002
    ! has_flow_to 41001 || fail 'the file was not rotated'
    facts=$(stat --format='%U %G %a' $log/flows.json)
    [[ $facts == 'panoptes-flow panoptes-flow 640' ]] || fail "the new file: $facts"
    systemctl stop $unit
    facts=$(systemctl show --property=Result --value $unit)
    [[ $facts == success ]] || fail "it ended with $facts"
    systemd-analyze security --no-pager --threshold=20 $unit.service | tail --lines=1
}

purge() {
    # Logs may be on a file system of their own.
    find /var/log/panoptes -mindepth 1 -delete
    mount --types tmpfs tmpfs /var/log/panoptes
    systemctl start panoptes
    rm --recursive $drop_ins
    systemctl daemon-reload
    apt-get --option DPkg::Lock::Timeout=60 --yes purge panoptes
    [[ -z $(ls --almost-all /var/log/panoptes) ]] || fail "logs are left behind"
    umount /var/log/panoptes
    rmdir /var/log/panoptes
    files > $work/after
    local more
    more=$(comm -13 $work/before $work/after)
    [[ -z $more ]] || fail "left behind: $more"
    getent passwd panoptes > /dev/null || fail "the user is gone"
    [[ $(property LoadState) == not-found ]] || fail "the unit is still there"
    echo 'nothing is left but the user'
}

# Runs a step: NAME SECONDS
step() {
    local begin=$SECONDS
    if timeout --kill-after=10 "$2" "$0" "$1" > $work/output 2>&1; then
        echo "ok $1: $(tail --lines=1 $work/output) ($((SECONDS - begin)) s)"
        return
    fi
    echo "failed $1: $(tail --lines=1 $work/output) ($((SECONDS - begin)) s)"
    {
        tail --lines=40 $work/output
        tail --lines=5 /run/guest/console
        journalctl --no-pager --lines=60 --unit=panoptes --unit=guest --unit=receiver
    } 2>&1 | sed 's/^/    /'
    return 1
}

if [[ $# == 1 ]]; then
    "$1"
    exit
fi
mkdir -p $work
trap 'systemctl poweroff' EXIT
set +e
step boot 600 || exit
step install 300 || exit
step exposure 60
step guest 920 || exit
step drop_in 60 || exit
step start 600 || exit
step threads 60
step record 200
step reload 200
step rotation 100
step watchdog 900
step upgrade 400
step stop 60
step host 400
step flow 200
step purge 300
