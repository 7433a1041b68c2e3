. "$(dirname "$0")/lib.sh"
make_data_and_config
make_lab
sed -i 's/^nodes = .*/nodes = ( { role = "data"; host = "host-a"; },\
  { role = "relay"; count = 3; host = "host-b"; } );/' "$scratch/config.cfg"
train_behind joined --set run.iterations=100000 --set 'optimizer.decay="none"'
wait_until 120 has_reached joined 5 || fail 'the run does not get under way'
ls $scratch/joined/join; cat $scratch/joined/join/rendezvous; cat $scratch/joined/join/interfaces
for i in 1 2 3; do
date +%T.%N
timeout 25 nsenter --target $(cat $lab/host-c.pid) --net --uts "$gwtf" join "$scratch/joined" --threads 1 --stage 1 || true
date +%T.%N
done
ls -la $scratch/joined/join; tail -n 20 $scratch/joined/logs/host-c*;  cat $scratch/joined/logs/node-0004.log; ls $scratch/joined/logs
tail -n 5 $scratch/joined/train.log $scratch/joined/logs/*.log
interrupt
