"""The C file and its header as a library that other projects build in: CMake, pkg-config and an example."""

import re

from fewstep.deploy.formats.c import source
from fewstep.deploy.program.description import Exported

CMAKE = """\
# A trained policy as a library: add_subdirectory({name}) and link {name}, or install it and
# find_package({name}), target {name}::{name}; pkg-config {name} where there is no CMake.
cmake_minimum_required(VERSION 3.16)
project({name} VERSION {version} LANGUAGES C)
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()
add_library({name} {name}.c)
add_library({name}::{name} ALIAS {name})
set_target_properties({name} PROPERTIES C_STANDARD 99 C_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
target_include_directories({name} PUBLIC
  $<BUILD_INTERFACE:${{CMAKE_CURRENT_SOURCE_DIR}}> $<INSTALL_INTERFACE:${{CMAKE_INSTALL_INCLUDEDIR}}>)
find_library({upper}_MATH m)
if({upper}_MATH)
  target_link_libraries({name} PUBLIC m)
endif()

add_executable({name}_example EXCLUDE_FROM_ALL example.c)
target_link_libraries({name}_example PRIVATE {name})

install(TARGETS {name} EXPORT {name}Targets)
install(FILES {name}.h DESTINATION ${{CMAKE_INSTALL_INCLUDEDIR}})
install(EXPORT {name}Targets FILE {name}Config.cmake NAMESPACE {name}:: DESTINATION
  ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
write_basic_package_version_file({name}ConfigVersion.cmake COMPATIBILITY ExactVersion)
install(FILES ${{CMAKE_CURRENT_BINARY_DIR}}/{name}ConfigVersion.cmake DESTINATION
  ${{CMAKE_INSTALL_LIBDIR}}/cmake/{name})
configure_file({name}.pc.in {name}.pc @ONLY)
install(FILES ${{CMAKE_CURRENT_BINARY_DIR}}/{name}.pc DESTINATION ${{CMAKE_INSTALL_LIBDIR}}/pkgconfig)
"""

PKG_CONFIG = """\
prefix=@CMAKE_INSTALL_PREFIX@
libdir=${{prefix}}/@CMAKE_INSTALL_LIBDIR@
includedir=${{prefix}}/@CMAKE_INSTALL_INCLUDEDIR@

Name: {name}
Description: {about}
Version: @PROJECT_VERSION@
Libs: -L${{libdir}} -l{name} -lm
Cflags: -I${{includedir}}
"""

EXAMPLE = """\
/* The action of an observation of zeros; cc -std=c99 -O2 example.c {name}.c -lm */
#include <stdio.h>

#include "{name}.h"

int main(void)
{{
    static const char *names[] = {upper}_OBS_NAMES;
    static const float low[] = {upper}_ACT_LOW, high[] = {upper}_ACT_HIGH;
    float obs[{upper}_OBS_SIZE] = {{0}}, action[{upper}_ACT_SIZE];
{act}
    printf("%d numbers, from %s to %s\\n", {upper}_OBS_SIZE, names[0], names[{upper}_OBS_SIZE - 1]);
    for (int i = 0; i < {upper}_ACT_SIZE; i++)
        printf("action[%d] = %g, of [%g, %g]\\n", i, action[i], low[i], high[i]);
    return 0;
}}
"""

SEEDED = """\
    {prefix}_rng rng;

    {prefix}_seed(&rng, 42);
    {prefix}_act_seeded(&rng, obs, action);"""
GIVEN = """\
    float noise[{upper}_NOISE_SIZE] = {{0}}; /* standard normal numbers are the caller's to draw */

    {prefix}_act(obs, noise, action);"""
NOISE_FREE = """\

    {prefix}_act(obs, NULL, action);"""


def files(exported: Exported, name: str, prefix: str = source.PREFIX) -> dict[str, bytes]:
    """The library's files by name; ``name``, that of its folder, becomes the library's."""
    name = identifier(name)
    content = {name + suffix: data for suffix, data in source.files(exported, name, prefix).items()}
    seeded = exported.description.noise == "inside"
    words = {
        "name": name,
        "upper": prefix.upper(),
        "prefix": prefix,
        "version": exported.description.fewstep,
        "about": f"{exported.description.algorithm} policy trained with fewstep",
    }
    act = (SEEDED if seeded else GIVEN if exported.noise_size else NOISE_FREE).format(**words)
    made = {
        "CMakeLists.txt": CMAKE.format(**words),
        f"{name}.pc.in": PKG_CONFIG.format(**words),
        "example.c": EXAMPLE.format(**words, act=act),
    }
    return content | {file: text.encode() for file, text in made.items()}


def identifier(name: str) -> str:
    """A folder's name as one that C, CMake and pkg-config all take: ``my-robot.v2`` is ``my_robot_v2``."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if plain[:1].isalpha() else f"policy_{plain}"
