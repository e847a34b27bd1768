#!/usr/bin/env bash
# Run a command beside a SLURM cluster of one node, this computer; the cluster ends with it:
#
#     tests/slurm.sh bash       # a shell in which sbatch, squeue and scancel work
#
# As root, with Debian's packages slurm-wlm and munge. Its files are in a temporary folder, and its
# ports are free ones of 127.0.0.1, so that another cluster on this computer is left alone.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

folder=$(mktemp -d)
export SLURM_CONF=$folder/slurm.conf  # of no other cluster are jobs started or cancelled
daemons=()
stop() {
    scancel --user=root || true
    while squeue --noheader | grep -q .; do sleep 0.2; done
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
        kill "${daemons[i]}" || true
        wait "${daemons[i]}" || true
    done 2> /dev/null
    rm -rf "$folder"
}
trap stop EXIT

read -r controller node < <(python3 -c '
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*[socket.getsockname()[1] for socket in sockets])')
cat > "$SLURM_CONF" << END
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort=$controller
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 Port=$node CPUs=2 State=UNKNOWN
PartitionName=all Nodes=node Default=YES OverSubscribe=YES MaxTime=INFINITE State=UP
END
mkdir "$folder/state" "$folder/spool"
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 0400 "$folder/munge.key"
munged --foreground --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/munge.seed" > "$folder/munged.log" 2>&1 &
daemons+=($!)
slurmctld -D -f "$SLURM_CONF" > "$folder/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D -f "$SLURM_CONF" -N node > "$folder/slurmd.log" 2>&1 &
daemons+=($!)
until sinfo --noheader --format=%t 2> /dev/null | grep -qx idle; do
    if ! kill -0 "${daemons[@]}"; then
        tail -n 20 "$folder"/*.log >&2
        exit 1
    fi
    sleep 0.2
done
"$@"
