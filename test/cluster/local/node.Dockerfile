# A node of the test cluster: what containerd, the kubelet and the faults need. The Kubernetes programs and process 1
# are mounted, not copied, so that this image changes only with this file.
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
      containerd runc containernetworking-plugins iptables iproute2 conntrack socat kmod mount ca-certificates procps \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/kube:/opt/node
ENTRYPOINT ["/opt/node/meridian-node", "init", "/etc/meridian/node.json"]
