#include "ops/registry/own_schema.h"

#include <onnx/defs/schema.h>
#include <onnx/defs/shape_inference.h>
#include <onnx/defs/tensor_proto_util.h>

#include <string>
#include <vector>

#include "ops/registry/operator.h"
#include "ops/registry/proto.h"

namespace sardonyx {

namespace {

constexpr int kVersion = 1;

void set_dims(onnx::InferenceContext& ctx, size_t output, size_t input) {
  auto* shape = ctx.getOutputType(output)->mutable_tensor_type()->mutable_shape();
  if (const onnx::TensorProto* data = ctx.getInputData(input)) {
    for (const int64_t n : onnx::ParseData<int64_t>(data)) shape->add_dim()->set_dim_value(n);
  } else if (const onnx::TensorShapeProto* symbols = ctx.getSymbolicInput(input)) {
    *shape = *symbols;
  } else {
    ctx.getOutputType(output)->mutable_tensor_type()->clear_shape();
  }
}

void set_dims(onnx::InferenceContext& ctx, size_t output, const std::optional<Shape>& dims) {
  if (!dims) return;
  auto* shape = ctx.getOutputType(output)->mutable_tensor_type()->mutable_shape();
  for (const Dim& dim : *dims) {
    auto* to = shape->add_dim();
    if (dim.known())
      to->set_dim_value(dim.value);
    else if (!dim.symbol.empty())
      to->set_dim_param(dim.symbol);
  }
}

OwnInference inference_of(onnx::InferenceContext& ctx) {
  OwnInference inference;
  for (size_t i = 0; i < ctx.getNumInputs(); ++i) {
    const onnx::TypeProto* type = ctx.getInputType(i);
    inference.inputs.push_back(type ? from_proto(*type) : Type());
  }
  inference.attribute = [&ctx](const std::string& name) {
    const onnx::AttributeProto* attribute = ctx.getAttribute(name);
    return attribute ? static_cast<int64_t>(attribute->i()) : int64_t{0};
  };
  return inference;
}

onnx::OpSchema make_schema(const Operator& op) {
  onnx::OpSchema schema(op.name, __FILE__, __LINE__);
  schema.SetDomain(kOwnDomain).SinceVersion(kVersion);
  int i = 0;
  for (const OwnInput& port : op.own->inputs)
    schema.Input(i++, port.name, "", port.type,
                 port.optional ? onnx::OpSchema::Optional : onnx::OpSchema::Single);
  i = 0;
  const auto presence = op.own->outputs.size() > 1 ? onnx::OpSchema::Optional : onnx::OpSchema::Single;
  for (const OwnOutput& port : op.own->outputs)
    schema.Output(i++, port.name, "", op.own->inputs.at(static_cast<size_t>(port.dtype_of)).type, presence);
  schema.TypeConstraint("T", {"tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"}, "");
  for (const char* any : {"V", "W"}) schema.TypeConstraint(any, onnx::OpSchema::all_tensor_types_ir13(), "");
  for (const AttributeSpec& spec : op.attribute_specs) {
    if (!spec.initial)
      schema.Attr(spec.name, "", onnx::AttributeProto::INTS, false);
    else if (const auto* number = std::get_if<int64_t>(&*spec.initial))
      schema.Attr(spec.name, "", onnx::AttributeProto::INT, *number);
    else if (const auto* real = std::get_if<float>(&*spec.initial))
      schema.Attr(spec.name, "", onnx::AttributeProto::FLOAT, *real);
    else if (const auto* text = std::get_if<std::string>(&*spec.initial))
      schema.Attr(spec.name, "", onnx::AttributeProto::STRING, *text);
    else
      schema.Attr(spec.name, "", onnx::AttributeProto::INTS, std::get<std::vector<int64_t>>(*spec.initial));
  }
  schema.TypeAndShapeInferenceFunction([outputs = op.own->outputs](onnx::InferenceContext& ctx) {
    for (size_t o = 0; o < outputs.size() && o < ctx.getNumOutputs(); ++o) {
      const OwnOutput& port = outputs[o];
      onnx::propagateElemTypeFromInputToOutput(ctx, static_cast<size_t>(port.dtype_of), o);
      if (port.dims_of >= 0 && onnx::hasInputShape(ctx, static_cast<size_t>(port.dims_of)))
        onnx::propagateShapeFromInputToOutput(ctx, static_cast<size_t>(port.dims_of), o);
      else if (port.dims_in >= 0)
        set_dims(ctx, o, static_cast<size_t>(port.dims_in));
      else if (port.dims)
        set_dims(ctx, o, port.dims(inference_of(ctx)));
    }
  });
  return schema;
}

}  // namespace

void with_own_schemas() {
  static const bool done = [] {
    onnx::OpSchemaRegistry::DomainToVersionRange::Instance().AddDomainToVersion(kOwnDomain, kVersion,
                                                                                kVersion);
    for (const auto& [key, op] : OperatorRegistry::instance().all())
      if (op.own) onnx::RegisterSchema(make_schema(op));
    return true;
  }();
  (void)done;
}

}  // namespace sardonyx
