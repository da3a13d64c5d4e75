#!/bin/sh
# Installs Palisade from this folder, or brings an installation to this version; may be run again at any time.
#
#   ./install.sh [--prefix FOLDER] [--no-start]      into /usr/local, unless said otherwise
#   ./install.sh --uninstall [--purge] [--prefix FOLDER]
#
# DESTDIR installs into another root, without touching this host: nothing is started, no group is made.
set -eu

prefix=/usr/local
destination=${DESTDIR:-}
start=yes
task=install
purge=no

fail() {
	echo "install.sh: $*" >&2
	exit 1
}

usage() {
	sed -n '2,7s/^# \{0,1\}//p' "$0"
}

while [ $# -gt 0 ]; do
	case "$1" in
	--prefix)
		[ $# -ge 2 ] || fail "--prefix needs a folder"
		prefix=${2%/}
		shift
		;;
	--prefix=*) prefix=${1#--prefix=} && prefix=${prefix%/} ;;
	--no-start) start=no ;;
	--uninstall) task=uninstall ;;
	--purge) purge=yes ;;
	-h | --help) usage && exit 0 ;;
	*) fail "$1 is not known; --help says what is" ;;
	esac
	shift
done
case "$prefix" in
/*) ;;
*) fail "--prefix must be an absolute path" ;;
esac
case "$prefix" in
*[!A-Za-z0-9/._+-]*) fail "--prefix may hold letters, digits and / . _ + - only" ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
share="$prefix/share/palisade"
list="$destination$share/installed-files"
unit=/etc/systemd/system/palisade.service
settings=/etc/palisade/palisade.toml

# Another root, or no systemd: then nothing is started or stopped.
has_systemd() {
	[ -z "$destination" ] && [ -d /run/systemd/system ]
}

need_root() {
	[ -n "$destination" ] || [ "$(id -u)" = 0 ] || fail "only root can do this"
}

# Where a file of the archive goes.
place_of() {
	case "$1" in
	usr/lib/systemd/system/*) echo "$unit" ;;
	usr/share/zsh/vendor-completions/*) echo "$prefix/share/zsh/site-functions/${1##*/}" ;;
	usr/*) echo "$prefix/${1#usr/}" ;;
	*) echo "/$1" ;;
	esac
}

# Written beside and renamed: a program that runs keeps its file.
put() {
	mkdir -p "$(dirname "$2")"
	sed_or_copy "$1" "$2.new"
	chmod "$3" "$2.new"
	mv -f "$2.new" "$2"
}

sed_or_copy() {
	case "$1" in
	*.service) sed "s|/usr/bin/palisade|$prefix/bin/palisade|g" "$1" >"$2" ;;
	*) cp "$1" "$2" ;;
	esac
}

install_files() {
	umask 022
	mkdir -p "$destination$share"
	fresh="$list.new"
	: >"$fresh"
	(cd "$here/files" && find . -type f | sort) | while read -r file; do
		file=${file#./}
		place=$(place_of "$file")
		mode=644
		[ ! -x "$here/files/$file" ] || mode=755
		case "$place" in
		/etc/palisade/*)
			# People's own from the first installation on; a newer one is put beside it.
			if [ -e "$destination$place" ] && ! cmp -s "$here/files/$file" "$destination$place"; then
				put "$here/files/$file" "$destination$place.dist" "$mode"
				echo "$place.dist" >>"$fresh"
				continue
			fi
			;;
		*) echo "$place" >>"$fresh" ;;
		esac
		put "$here/files/$file" "$destination$place" "$mode"
	done
	# What an older version had and this one has not.
	if [ -e "$list" ]; then
		while read -r file; do
			grep -qxF "$file" "$fresh" || rm -f "$destination$file"
		done <"$list"
	fi
	mv "$fresh" "$list"
}

install_all() {
	need_root
	[ -d "$here/files" ] || fail "the files to install are not beside this script"
	if [ -z "$destination" ] && command -v dpkg-query >/dev/null &&
		dpkg-query --show --showformat '${db:Status-Abbrev}' palisade 2>/dev/null | grep -q '^ii'; then
		fail "the Debian package of Palisade is installed: upgrade or remove that one"
	fi
	was_there=no
	[ ! -e "$list" ] || was_there=yes
	install_files
	echo "installed under $destination$prefix; --uninstall takes it away again"
	[ -z "$destination" ] || return 0

	for role in viewer operator admin; do
		groupadd --system --force "palisade-$role" || echo "install.sh: no group palisade-$role was made" >&2
	done
	if [ ! -e "$settings" ] && ! "$prefix/libexec/palisade/first-settings" "$share/palisade.toml" "$settings"; then
		echo "No Ethernet interface has a default route, so nothing is protected yet. Name the interfaces in $settings" >&2
		echo "($share/palisade.toml is its beginning), then run: systemctl start palisade" >&2
		start=no
	fi
	if ! has_systemd; then
		echo "systemd does not run here: start \`$prefix/bin/palisade daemon\` as you start other daemons"
		return 0
	fi
	systemctl daemon-reload
	[ "$was_there" = yes ] || systemctl --quiet enable palisade.service
	[ "$start" = yes ] || return 0
	# One that was stopped stays so.
	if [ "$was_there" = no ] || systemctl --quiet is-active palisade.service; then
		"$prefix/libexec/palisade/take-over" "$prefix/bin/palisade" systemctl
	fi
}

uninstall_all() {
	need_root
	if [ ! -e "$list" ]; then
		echo "nothing is installed under $destination$prefix"
	else
		if has_systemd; then
			systemctl --quiet disable --now palisade.service || true
		fi
		if [ -z "$destination" ] && [ -e "$settings" ] && ! "$prefix/bin/palisade" detach --stopped; then
			fail "the fence could not be taken down, so nothing was removed; is a daemon running?"
		fi
		while read -r file; do
			rm -f "$destination$file"
			remove_empty "$(dirname "$file")"
		done <"$list"
		rm -f "$list"
		remove_empty "$share"
		if has_systemd; then
			systemctl daemon-reload
		fi
		echo "removed from $destination$prefix; settings and policy stay in /etc/palisade, state in /var/lib/palisade"
	fi
	if [ "$purge" = yes ]; then
		rm -rf "$destination/etc/palisade" "$destination/var/lib/palisade"
		echo "settings, policy and state were removed"
	fi
}

# Folders that a file leaves empty, up to those that others share.
remove_empty() {
	folder=$1
	while [ "$folder" != "$prefix" ] && [ "$folder" != / ] && [ "$folder" != /etc/systemd/system ]; do
		rmdir "$destination$folder" 2>/dev/null || return 0
		folder=$(dirname "$folder")
	done
}

if [ "$task" = install ]; then
	[ "$purge" = no ] || fail "--purge belongs to --uninstall"
	install_all
else
	uninstall_all
fi
