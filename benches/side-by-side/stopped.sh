# stopped.sh ID RUNTIME...: until the program of a container has ended. Whose time it is, is not counted.
id=$1
shift
for try in {1..1000}; do
  if "$@" state "$id" | grep -q '"stopped"'; then exit; fi
  sleep 0.01
done
echo "container $id does not stop" >&2
exit 1
