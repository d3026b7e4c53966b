# libsardonyx.so: globs the rooms and generates the registration of every family file.

# sardonyx_register(<output var> <room> <namespace> <registry type> <header> <function>) writes a source
# file that calls register_<stem> for each <room>/*.cpp.
function(sardonyx_register out room namespace registry header function)
  file(GLOB files CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${room}/*.cpp")
  set(declarations "")
  set(calls "")
  foreach(file ${files})
    get_filename_component(stem ${file} NAME_WE)
    string(APPEND declarations "void register_${stem}(${registry}&);\n")
    string(APPEND calls "  register_${stem}(registry);\n")
  endforeach()
  set(text "#include \"${header}\"\nnamespace ${namespace} {\n${declarations}void ${function}(${registry}& registry) {\n  (void)registry;\n${calls}}\n}\n")
  string(REPLACE "/" "_" flat ${room})
  set(generated "${CMAKE_CURRENT_BINARY_DIR}/generated/register_${flat}.cpp")
  file(CONFIGURE OUTPUT ${generated} CONTENT "${text}" @ONLY)
  set(${out} ${generated} PARENT_SCOPE)
endfunction()

file(GLOB sardonyx_sources CONFIGURE_DEPENDS
  graph/*.cpp autodiff/*.cpp training/*.cpp training/loss/*.cpp ops/*.cpp ops/fusion/*.cpp ops/registry/*.cpp providers/*.cpp providers/runtime/*.cpp providers/runtime/host/*.cpp
  providers/cpu/*.cpp providers/cpu/support/*.cpp onnx_import/*.cpp onnx_import/upgrade/*.cpp api/*.cpp)
sardonyx_register(register_ops ops sardonyx OperatorRegistry ops/registry/operator.h register_all_operators)
sardonyx_register(register_fusions ops/fusion sardonyx FusionRegistry ops/registry/fusion.h register_all_fusions)
sardonyx_register(register_cpu providers/cpu sardonyx::cpu KernelRegistry providers/kernel.h register_all_kernels)
sardonyx_register(register_host providers/runtime/host sardonyx::host KernelRegistry providers/kernel.h register_all_kernels)

sardonyx_register(register_losses training/loss sardonyx std::vector<Loss> training/loss.h register_all_losses)

add_library(sardonyx_wait_policy SHARED providers/cpu/wait_policy/wait_policy.cpp)
add_library(sardonyx SHARED ${sardonyx_sources} ${register_ops} ${register_fusions} ${register_cpu} ${register_host} ${register_losses})
add_library(sardonyx::sardonyx ALIAS sardonyx)
target_include_directories(sardonyx PUBLIC
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)
target_include_directories(sardonyx PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(sardonyx PRIVATE SARDONYX_VERSION="${PROJECT_VERSION}")
target_compile_features(sardonyx PUBLIC cxx_std_20)
# Named after libgomp: of libraries that do not need one another, the one that is named last starts first.
target_link_libraries(OpenMP::OpenMP_CXX INTERFACE sardonyx_wait_policy)
target_link_libraries(sardonyx PRIVATE ONNX::onnx ONNX::onnx_proto protobuf::libprotobuf DNNL::dnnl OpenMP::OpenMP_CXX
  fmt::fmt spdlog::spdlog nlohmann_json::nlohmann_json Threads::Threads ZLIB::ZLIB ICU::uc ICU::i18n PkgConfig::RE2 PkgConfig::HWY)
include(SardonyxImages)
sardonyx_link_image_libraries(sardonyx)
# What comes from archives (libonnx, libonnx_proto) stays inside: two copies in one process would abort.
target_link_options(sardonyx PRIVATE "LINKER:--exclude-libs,ALL" "LINKER:--no-undefined")
if(SARDONYX_SANITIZE)
  set_target_properties(sardonyx PROPERTIES LINK_OPTIONS "LINKER:--exclude-libs,ALL")
endif()
set_target_properties(sardonyx PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  BUILD_RPATH "${SARDONYX_DEPS}/venv/lib" INSTALL_RPATH "$ORIGIN")
