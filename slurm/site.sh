# What is particular to one cluster: batch scripts read this file before they start anything. Copy
# it to ~/.config/gwtf/site.sh, or name another by GWTF_SITE, and take what your cluster needs.

# Modules, where the cluster has them; Open MPI 4.1 or 5, and CUDA's libraries where nodes have GPUs.
#. /etc/profile.d/modules.sh # where the shell of batch scripts has no `module`
#module load openmpi cuda

# Where gwtf stands, when it is not in PATH.
#PATH=$HOME/gwtf/build/release/bin:$PATH

# The network between the nodes, when not all interfaces lead there: names or address ranges, with
# commas. `gwtf doctor` lists those of a machine.
#export GWTF_INTERFACES=ib0

# Short-lived files, where /tmp is small.
#export TMPDIR=/scratch/$USER
