#!/bin/sh
# Install the collection below a directory SHARE, /usr/share of a machine or of a package:
#
#   SHARE/ansible/collections/...          where ansible-core looks for collections
#   SHARE/ansible/plugins/modules/...      links to the modules, and
#   SHARE/ansible/plugins/connection/...   to the connection: where it looks for what is called by its
#                                          bare name, as the playbooks of Luna 1.2 do
#   SHARE/luna/inventory                   the inventory of 1.2; it was /etc/ansible/hosts/luna
set -eu
share=${1:?usage: install.sh SHARE}
here=$(dirname "$0")
collection=ansible/collections/ansible_collections/clustervision/luna

install -d "$share/$collection" "$share/ansible/plugins/modules" "$share/ansible/plugins/connection" "$share/luna"
for part in galaxy.yml README.md CHANGELOG.md meta plugins roles playbooks; do
	[ ! -e "$here/$part" ] || cp -R "$here/$part" "$share/$collection/"
done
find "$share/$collection" -name __pycache__ -prune -exec rm -r {} +
chmod -R u=rwX,go=rX "$share/$collection"

for plugin in "$share/$collection"/plugins/modules/luna_*.py "$share/$collection/plugins/connection/lchroot.py"; do
	kind=$(basename "$(dirname "$plugin")")
	ln -sf "../../../$collection/plugins/$kind/$(basename "$plugin")" "$share/ansible/plugins/$kind/"
done

printf '#!/bin/sh\nexec luna inventory "$@"\n' >"$share/luna/inventory"
chmod 755 "$share/luna/inventory"
