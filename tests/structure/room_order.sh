#!/bin/sh
# usage: room_order.sh LIB_MP ROOM...   (ground floor first)
# Fails if a file of a room includes a room above its own, or a public header other than the ground's errors.hpp.
cd "$1" || exit 1
shift
find . -name '*.[ch]pp' -path './*/*' | sort | xargs awk -v rooms="$*" '
  BEGIN { count = split(rooms, list, " "); for (i = 1; i <= count; ++i) rank[list[i]] = i }
  FNR == 1 { split(FILENAME, part, "/"); own = part[2]; ++files
             if (!(own in rank)) { print FILENAME ": a folder that lib/mp/meson.build does not list"; bad = 1 } }
  /^[ \t]*#[ \t]*include[ \t]*[<"]mp\// {
    path = $0; sub(/.*[<"]mp\//, "", path); sub(/[>"].*/, "", path)
    if (path == "errors.hpp") next
    if (path !~ /\//) why = "rooms do not include the public headers, which are for users"
    else {
      room = path; sub(/\/.*/, "", room)
      if (!(room in rank)) why = "no such room"
      else if (rank[room] > rank[own]) why = room " is above " own
      else next
    }
    print FILENAME ":" FNR ": includes mp/" path ": " why; bad = 1
  }
  END { print files " files looked at"; exit bad || !files }'
