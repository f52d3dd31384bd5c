"""Cards of mechanisms that other libraries have and the catalogue does not, until it does."""

from __future__ import annotations

from foveate.registry import Card, Paper

_PAN = Paper("Pyramid Attention Network for Semantic Segmentation", "Li, Xiong, An, Wang", "BMVC 2018", "1805.10180")

CARDS = {
    card.name: card
    for card in (
        Card(
            "effective_squeeze_excite",
            "Effective Squeeze-and-Excitation",
            Paper("CenterMask: Real-Time Anchor-Free Instance Segmentation", "Lee, Park", "CVPR 2020", "1911.06667"),
            "y = x · hσ(W mean_hw(x) + b), hσ(z) = relu6(z + 3) / 6",
        ),
        Card(
            "global_context",
            "Global Context",
            Paper(
                "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
                "Cao, Xu, Lin, Wei, Hu",
                "ICCV Workshops 2019",
                "1904.11492",
            ),
            "y = x + W₂ relu(LN(W₁ Σ_p softmax_p(w · x_p) x_p))",
        ),
        Card(
            "selective_kernel",
            "Selective Kernel",
            Paper("Selective Kernel Networks", "Li, Wang, Hu, Yang", "CVPR 2019", "1903.06586"),
            "y = Σ_k softmax_k(B_k relu(norm(A mean_hw(Σ_k u_k)))) · u_k, u_k = conv_k(x)",
        ),
        Card(
            "split_attention",
            "Split-Attention",
            Paper(
                "ResNeSt: Split-Attention Networks",
                "Zhang, Wu, Zhang, Zhu, Lin, Zhang, Sun, He, Mueller, Manmatha, Li, Smola",
                "CVPR Workshops 2022",
                "2004.08955",
            ),
            "y = Σ_r softmax_r(W₂ relu(norm(W₁ mean_hw(Σ_r u_r)))) · u_r, u = conv(x) in r splits",
        ),
        Card(
            "coordinate",
            "Coordinate Attention",
            Paper(
                "Coordinate Attention for Efficient Mobile Network Design", "Hou, Zhou, Feng", "CVPR 2021", "2103.02907"
            ),
            "y = x · σ(F_h(f_h)) · σ(F_w(f_w)), [f_h; f_w] = hswish(norm(F([mean_w(x); mean_h(x)])))",
        ),
        Card(
            "efficient_local",
            "Efficient Local Attention",
            Paper(
                "ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
                "Xu, Wan",
                "arXiv 2024",
                "2403.01123",
            ),
            "y = x · σ(GN(conv1d(mean_w(x)))) · σ(GN(conv1d(mean_h(x))))",
        ),
        Card(
            "strip_pooling",
            "Strip Pooling",
            Paper(
                "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
                "Hou, Zhang, Cheng, Feng",
                "CVPR 2020",
                "2003.13328",
            ),
            "y = x · σ(F(conv(mean_w(x)) + conv(mean_h(x))))",
        ),
        Card(
            "scse",
            "Concurrent Spatial and Channel Squeeze & Excitation",
            Paper(
                "Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional Networks",
                "Roy, Navab, Wachinger",
                "MICCAI 2018",
                "1803.02579",
            ),
            "y = max(x · σ(W₂ relu(W₁ mean_hw(x))), x · σ(w · x))",
        ),
        Card(
            "attention_gate",
            "Attention Gate",
            Paper(
                "Attention U-Net: Learning Where to Look for the Pancreas",
                "Oktay, Schlemper, Le Folgoc, Lee, Heinrich, Misawa, Mori, McDonagh, Hammerla, Kainz, Glocker, "
                "Rueckert",
                "MIDL 2018",
                "1804.03999",
            ),
            "y = x · σ(ψ · relu(W_x x + W_g g))",
        ),
        Card(
            "non_local",
            "Non-local Block",
            Paper("Non-local Neural Networks", "Wang, Girshick, Gupta, He", "CVPR 2018", "1711.07971"),
            "y = x + W_z softmax(θ(x)ᵀ φ(x)) g(x)",
        ),
        Card(
            "bilinear_attentional_transform",
            "Bilinear Attentional Transform",
            Paper(
                "Non-Local Neural Networks With Grouped Bilinear Attentional Transforms",
                "Chi, Yuan, Mu, Wang",
                "CVPR 2020",
            ),
            "y = x + conv(P conv(x) Qᵀ), P and Q from x",
        ),
        Card(
            "bottleneck_attention",
            "Bottleneck Transformer's Self-Attention",
            Paper(
                "Bottleneck Transformers for Visual Recognition",
                "Srinivas, Lin, Parmar, Shlens, Abbeel, Vaswani",
                "CVPR 2021",
                "2101.11605",
            ),
            "y = softmax(qᵀ k + qᵀ r) v",
        ),
        Card(
            "halo_attention",
            "Halo Attention",
            Paper(
                "Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
                "Vaswani, Ramachandran, Srinivas, Parmar, Hechtman, Shlens",
                "CVPR 2021",
                "2103.12731",
            ),
            "y = softmax(qᵀ k + qᵀ r) v, keys and values from a block and the halo around it",
        ),
        Card(
            "lambda_layer",
            "Lambda Layer",
            Paper(
                "LambdaNetworks: Modeling Long-Range Interactions Without Attention",
                "Bello",
                "ICLR 2021",
                "2102.08602",
            ),
            "y = (softmax(k)ᵀ v + Eᵀ v)ᵀ q",
        ),
        Card(
            "feature_pyramid_attention",
            "Feature Pyramid Attention",
            _PAN,
            "y = pyramid(x) · conv(x) + conv(mean_hw(x))",
        ),
        Card("global_attention_upsample", "Global Attention Upsample", _PAN, "y = up(g) + conv(x) · act(mean_hw(g))"),
        Card(
            "position_attention_block",
            "Position-wise Attention Block",
            Paper(
                "MA-Net: A Multi-Scale Attention Network for Liver and Tumor Segmentation",
                "Fan, Wang, Li, Wang",
                "IEEE Access 2020",
            ),
            "y = conv(x + softmax(conv(x)ᵀ conv(x)) conv(x))",
        ),
        Card(
            "partial_self_attention",
            "Partial Self-Attention",
            Paper(
                "YOLOv10: Real-Time End-to-End Object Detection",
                "Wang, Chen, Liu, Chen, Lin, Han, Ding",
                "NeurIPS 2024",
                "2405.14458",
            ),
            "y = W (softmax(qᵀ k / √d) v + dwconv(v))",
        ),
        Card(
            "area_attention",
            "Area Attention",
            Paper(
                "YOLOv12: Attention-Centric Real-Time Object Detectors",
                "Tian, Ye, Doermann",
                "arXiv 2025",
                "2502.12524",
            ),
            "y = W (softmax(qᵀ k / √d) v + dwconv(v)), within areas of the map",
        ),
    )
}
