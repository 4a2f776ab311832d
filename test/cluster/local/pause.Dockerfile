# Holds a pod's namespaces open (go/node/main.go).
FROM scratch
COPY meridian-node /meridian-node
USER 65535:65535
ENTRYPOINT ["/meridian-node", "pause"]
