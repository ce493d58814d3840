# SPDX-License-Identifier: MIT
# Run by cpack on the folder of what is to be packed, one folder in it for each component: makes of
# installed files what Debian's policy wants of a package.
cmake_minimum_required(VERSION 3.25)
set(readable OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
set(source ${CMAKE_CURRENT_LIST_DIR}/../..)

# compress(FILE): by gzip, without a date or a name. What is a link to a page links to the compressed one.
function(compress file)
  if(IS_SYMLINK ${file})
    file(READ_SYMLINK ${file} target)
    file(REMOVE ${file})
    file(CREATE_LINK ${target}.gz ${file}.gz SYMBOLIC)
  else()
    execute_process(COMMAND gzip -9n ${file} COMMAND_ERROR_IS_FATAL ANY)
  endif()
endfunction()

string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
set(version ${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE})
foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  set(usr ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/${component}/usr)
  set(doc ${usr}/share/doc/${component})
  if(EXISTS ${usr}/share/doc/jitbroker)
    file(RENAME ${usr}/share/doc/jitbroker ${doc})
  endif()
  file(MAKE_DIRECTORY ${doc})

  file(READ ${source}/LICENSE licence)
  string(REGEX MATCH "Copyright \\(c\\) ([^\n]*)\n\n(.*)\n$" all "${licence}")
  set(holder ${CMAKE_MATCH_1})
  string(REPLACE "\n\n" "\n.\n" text "${CMAKE_MATCH_2}")
  string(REPLACE "\n" "\n " text "${text}")
  file(WRITE ${doc}/copyright
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
    "Upstream-Name: jitbroker\n\n"
    "Files: *\nCopyright: ${holder}\nLicense: Expat\n ${text}\n")
  file(WRITE ${doc}/changelog.Debian
    "jitbroker (${version}) unstable; urgency=medium\n\n"
    "  * Packaged from the project's own tree; what changed is in changelog.gz.\n\n"
    " -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
  file(COPY_FILE ${source}/NEWS.md ${doc}/changelog)
  compress(${doc}/changelog.Debian)
  compress(${doc}/changelog)

  file(GLOB pages ${usr}/share/man/man*/*)
  foreach(page IN LISTS pages)
    compress(${page})
  endforeach()
endforeach()

# The example is the policy: all of it is commented out, so it serves nobody. What an administrator
# wants is better said in conf.d/, where no upgrade asks about it.
set(daemon ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/jitbrokerd)
file(MAKE_DIRECTORY ${daemon}/etc/jitbroker)
file(RENAME ${daemon}/usr/share/doc/jitbrokerd/examples/jitbrokerd.conf ${daemon}/etc/jitbroker/jitbrokerd.conf)
file(REMOVE_RECURSE ${daemon}/usr/share/doc/jitbrokerd/examples)

# cpack strips what can be run or loaded; of an archive the code stays, and what it is linked by.
file(GLOB archive ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/libjitclient-dev/usr/lib/*/libjitclient.a)
execute_process(COMMAND strip --strip-debug --enable-deterministic-archives ${archive} COMMAND_ERROR_IS_FATAL ANY)

# What cmake and this script made follows the umask; files that cmake installed have their modes.
file(GLOB_RECURSE all LIST_DIRECTORIES true ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
foreach(path IN LISTS all)
  if(IS_DIRECTORY ${path} AND NOT IS_SYMLINK ${path})
    file(CHMOD ${path} PERMISSIONS ${readable} OWNER_EXECUTE GROUP_EXECUTE WORLD_EXECUTE)
  elseif(NOT IS_SYMLINK ${path} AND NOT path MATCHES "/s?bin/[^/]*$")
    file(CHMOD ${path} PERMISSIONS ${readable})
  endif()
endforeach()
