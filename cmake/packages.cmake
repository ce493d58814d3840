# SPDX-License-Identifier: MIT
# Debian packages, by `cpack -G DEB` in the build directory or the target "package".
# An install component is a package: a folder says by CMAKE_INSTALL_DEFAULT_COMPONENT_NAME whose
# files it installs. What only a package has (compressed pages, conffiles, copyright) comes from
# debian/stage.cmake, so that `cmake --install` puts nothing where an administrator's files are.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME jitbroker)
set(CPACK_PACKAGE_CONTACT "The jitbroker authors <jitbroker@jitbroker.invalid>" CACHE STRING
    "Maintainer of the packages: whoever builds them")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # each package has its own
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL jitbrokerd libjitclient0 libjitclient-dev jitbroker-tools)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/debian/stage.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON) # of that very version
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# The library that the tools need is none that is installed here.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/client)

set(debian ${CMAKE_CURRENT_LIST_DIR}/debian)
set(configured ${PROJECT_BINARY_DIR}/debian)
# The maintainer scripts name each socket unit that there is.
file(GLOB JITBROKER_SOCKETS CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/systemd
     ${PROJECT_SOURCE_DIR}/systemd/*.socket)
list(JOIN JITBROKER_SOCKETS " " JITBROKER_SOCKETS)
foreach(script IN ITEMS postinst prerm postrm)
  configure_file(${debian}/${script}.in ${configured}/${script} @ONLY
    FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endforeach()

set(CPACK_COMPONENT_JITBROKERD_DESCRIPTION
"executable memory broker, the daemon
jitbrokerd owns the executable memory of processes that may not make any:
services with MemoryDenyWriteExecute=, or an equal of it by seccomp or
SELinux. It is the only writer of that memory, and hands it out by sockets.

This package has the daemon, its systemd units, and a policy that serves
nobody until its administrator says whom.")
set(CPACK_DEBIAN_JITBROKERD_PACKAGE_NAME jitbrokerd)
set(CPACK_DEBIAN_JITBROKERD_PACKAGE_SECTION admin)
# Whoever has no systemd needs its two tools all the same: for the user, and for /run/jitbroker.
set(CPACK_DEBIAN_JITBROKERD_PACKAGE_DEPENDS
    "systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles")
set(CPACK_DEBIAN_JITBROKERD_PACKAGE_RECOMMENDS jitbroker-tools)
set(CPACK_DEBIAN_JITBROKERD_PACKAGE_CONTROL_EXTRA
    "${configured}/postinst;${configured}/prerm;${configured}/postrm;${debian}/conffiles")

set(CPACK_COMPONENT_LIBJITCLIENT0_DESCRIPTION
"executable memory broker, the library of its clients
libjitclient asks jitbrokerd for executable memory, maps it, and has code
written there; it also locks a process down, so that there is no other way.")
set(CPACK_DEBIAN_LIBJITCLIENT0_PACKAGE_NAME libjitclient0)
set(CPACK_DEBIAN_LIBJITCLIENT0_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBJITCLIENT0_PACKAGE_SUGGESTS jitbrokerd)
set(CPACK_DEBIAN_LIBJITCLIENT0_PACKAGE_CONTROL_EXTRA
    "${debian}/shlibs;${debian}/symbols;${debian}/triggers")

set(CPACK_COMPONENT_LIBJITCLIENT-DEV_DESCRIPTION
"executable memory broker, files to develop its clients
The header, the static library, the manual pages and what pkg-config and
CMake have to know to build programs with libjitclient.")
set(CPACK_DEBIAN_LIBJITCLIENT-DEV_PACKAGE_NAME libjitclient-dev)
set(CPACK_DEBIAN_LIBJITCLIENT-DEV_PACKAGE_SECTION libdevel)
# What the static library, and so pkg-config --static, takes in.
set(CPACK_DEBIAN_LIBJITCLIENT-DEV_PACKAGE_DEPENDS
    "libprotobuf-c-dev, libseccomp-dev")
set(CPACK_COMPONENT_LIBJITCLIENT-DEV_DEPENDS libjitclient0)

set(CPACK_COMPONENT_JITBROKER-TOOLS_DESCRIPTION
"executable memory broker, tools for operators
jitbrokerctl shows whether code can be run here, whom a policy serves and
with what. jitbroker-run runs programs with JIT compilers that know nothing
of a broker, so that one writes their code.")
set(CPACK_DEBIAN_JITBROKER-TOOLS_PACKAGE_NAME jitbroker-tools)
set(CPACK_DEBIAN_JITBROKER-TOOLS_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_JITBROKER-TOOLS_PACKAGE_DEPENDS "libjitclient0 (>= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_JITBROKER-TOOLS_PACKAGE_SUGGESTS jitbrokerd)

include(CPack)
